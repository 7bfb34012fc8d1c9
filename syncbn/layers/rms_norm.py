"""The root-mean-square normalization layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn._core import plans
from syncbn._core.checks import check_flag, check_shape
from syncbn.layers._affine import AffineNormalizer
from syncbn.typing import BackwardOf, ScalarT


class RMSNorm(AffineNormalizer):
    r"""Root-mean-square normalization over the trailing axes.

    Not collective. Training and evaluation mode give the same result.

    .. math:: y = γ\,\frac{x}{\sqrt{\frac{1}{D}\sum x^2 + \mathrm{eps}}}

    The sum is over the D values in the trailing axes.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Shape of the trailing axes of x.
    eps : float, optional
        Constant added to the mean of the squares, finite and at least 0. Default: ``finfo(x.dtype).eps``;
        for float16 ``finfo(float32).eps``, as in PyTorch.
    elementwise_affine : bool
        Whether there is γ (``weight``), of shape ``normalized_shape``.
    dtype : dtype
        Dtype of the parameter. y has x's dtype.

    Raises
    ------
    ValueError, TypeError
        From the constructor or the call: invalid arguments.

    See Also
    --------
    syncbn.functional.rms_norm : The function.
    syncbn.LayerNorm : With the mean.

    References
    ----------
    Zhang & Sennrich 2019, arXiv:1910.07467.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import RMSNorm
    >>> layer = RMSNorm(2, eps=0.0)
    >>> y, backward = layer(np.array([[3.0, 4.0]], np.float32))
    >>> y.round(3)
    array([[0.849, 1.131]], dtype=float32)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.normalized_shape: tuple[int, ...] = check_shape(normalized_shape)
        elementwise_affine = check_flag("elementwise_affine", elementwise_affine)
        super().__init__(self.normalized_shape, eps, elementwise_affine, True, False, dtype)

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.affine}"

    def forward(self, x: NDArray[ScalarT]) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y and its backward. Do not change x before the backward is called."""
        y, gradients = plans.feature_norm(x, self.normalized_shape, *self._arrays(), self.eps, False)
        return y, self._backward(gradients)

    if TYPE_CHECKING:
        __call__ = forward
