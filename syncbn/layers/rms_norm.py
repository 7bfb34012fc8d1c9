"""The root-mean-square normalization layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from syncbn._core.checks import check_eps
from syncbn._core.feature_layout import shape_tuple
from syncbn.functional.rms_norm import rms_norm
from syncbn.layers._affine import add_grads, gamma, value_of
from syncbn.layers.module import Module
from syncbn.typing import Backward, FloatArray


class RMSNorm(Module):
    r"""Root-mean-square normalization over the trailing axes, in training and evaluation.

    Not collective.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The trailing axes of x.
    eps : float, optional
        Default: ``finfo`` of x's dtype (float16: of float32).
    elementwise_affine : bool
        Whether there is γ (``weight``), of shape ``normalized_shape``.
    dtype : dtype
        Of the parameter.

    Raises
    ------
    ValueError, TypeError
        Bad parameters; from the call, bad input.

    References
    ----------
    Zhang & Sennrich 2019, arXiv:1910.07467.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.normalized_shape = shape_tuple(normalized_shape)
        self.eps = None if eps is None else check_eps(eps)
        self.weight = gamma(self.normalized_shape, dtype, elementwise_affine)

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y and its backward."""
        y, gradients = rms_norm(x, self.normalized_shape, value_of(self.weight), eps=self.eps)

        def backward(dy: FloatArray) -> FloatArray:
            dx, dweight = gradients(dy)
            add_grads((self.weight, dweight))
            return dx

        return y, backward
