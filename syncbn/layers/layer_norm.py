"""The layer normalization layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from syncbn._core import plans
from syncbn._core.checks import check_eps, check_shape
from syncbn.layers._affine import AffineNormalizer
from syncbn.typing import Backward, FloatArray


class LayerNorm(AffineNormalizer):
    r"""Layer normalization over the trailing axes, in training and evaluation.

    Not collective.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The trailing axes of x.
    eps : float
    elementwise_affine : bool
        Whether there are γ (``weight``) and β (``bias``), of shape ``normalized_shape``.
    bias : bool
        False: γ alone.
    dtype : dtype
        Of the parameters.

    Raises
    ------
    ValueError, TypeError
        Bad parameters; from the call, bad input.

    References
    ----------
    Ba, Kiros & Hinton 2016, arXiv:1607.06450.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.normalized_shape = check_shape(normalized_shape)
        super().__init__(self.normalized_shape, check_eps(eps), elementwise_affine, bias, dtype)

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y and its backward."""
        y, gradients = plans.feature_norm(x, self.normalized_shape, *self._arrays(), self.eps, True)
        return y, self._backward(gradients)
