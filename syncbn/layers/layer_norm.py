"""The layer normalization layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from syncbn._core.checks import check_eps
from syncbn._core.feature_layout import shape_tuple
from syncbn.functional.layer_norm import layer_norm
from syncbn.layers._affine import add_grads, beta, gamma, value_of
from syncbn.layers.module import Module
from syncbn.typing import Backward, FloatArray


class LayerNorm(Module):
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
        super().__init__()
        self.normalized_shape = shape_tuple(normalized_shape)
        self.eps = check_eps(eps)
        self.weight = gamma(self.normalized_shape, dtype, elementwise_affine)
        self.bias = beta(self.normalized_shape, dtype, elementwise_affine and bias)

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y and its backward."""
        y, gradients = layer_norm(x, self.normalized_shape, value_of(self.weight), value_of(self.bias), eps=self.eps)

        def backward(dy: FloatArray) -> FloatArray:
            dx, dweight, dbias = gradients(dy)
            add_grads((self.weight, dweight), (self.bias, dbias))
            return dx

        return y, backward
