"""The layer normalization layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from syncbn._core import plans
from syncbn._core.checks import check_eps, check_flag, check_shape
from syncbn.layers._affine import AffineNormalizer
from syncbn.typing import BackwardOf, ScalarT


class LayerNorm(AffineNormalizer):
    r"""Layer normalization over the trailing axes.

    Not collective. Training and evaluation mode give the same result.

    .. math:: y = γ\,\frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}} + β

    A row is the values in the trailing axes at one position of the other axes. Each row has a mean μ and a biased
    variance var; γ and β have one value for each position in a row.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Shape of the trailing axes of x.
    eps : float
        Constant added to the variance, finite and at least 0.
    elementwise_affine : bool
        Whether there are γ (``weight``) and β (``bias``), of shape ``normalized_shape``.
    bias : bool
        Whether there is β, if ``elementwise_affine`` is True.
    weight : bool
        Whether there is γ, if ``elementwise_affine`` is True.
    dtype : dtype
        Dtype of the parameters. y has x's dtype.

    Raises
    ------
    ValueError, TypeError
        From the constructor or the call: invalid arguments.

    See Also
    --------
    syncbn.functional.layer_norm : The function.
    syncbn.RMSNorm : Without the mean.

    References
    ----------
    Ba, Kiros & Hinton 2016, arXiv:1607.06450.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import LayerNorm
    >>> layer = LayerNorm(3)
    >>> y, backward = layer(np.array([[1.0, 2.0, 3.0]], np.float32))
    >>> y.round(3)
    array([[-1.225,  0.   ,  1.225]], dtype=float32)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        weight: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.normalized_shape: tuple[int, ...] = check_shape(normalized_shape)
        elementwise_affine = check_flag("elementwise_affine", elementwise_affine)
        super().__init__(self.normalized_shape, check_eps(eps), elementwise_affine, weight, bias, dtype)

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return f"{self.normalized_shape}, eps={self.eps}, {self._repr_affine('elementwise_affine')}"

    def forward(
        self, x: NDArray[ScalarT], mask: ArrayLike | None = None
    ) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y and its backward. Do not change x before the backward is called.

        `syncbn.functional.layer_norm` describes ``mask``.
        """
        y, gradients = plans.feature_norm(x, self.normalized_shape, *self._arrays(), self.eps, True, mask)
        return y, self._backward(gradients)

    if TYPE_CHECKING:
        __call__ = forward
