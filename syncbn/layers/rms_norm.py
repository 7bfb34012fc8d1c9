"""The root-mean-square normalization layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from syncbn._core import plans
from syncbn._core.checks import check_shape
from syncbn.layers._affine import AffineNormalizer
from syncbn.typing import Backward, FloatArray


class RMSNorm(AffineNormalizer):
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
        self.normalized_shape = check_shape(normalized_shape)
        super().__init__(self.normalized_shape, eps, elementwise_affine, False, dtype)

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y and its backward."""
        y, gradients = plans.feature_norm(x, self.normalized_shape, *self._arrays(), self.eps, False)
        return y, self._backward(gradients)
