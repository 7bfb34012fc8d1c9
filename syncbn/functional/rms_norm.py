"""Root-mean-square normalization: layer normalization without the mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from numpy.typing import NDArray

from syncbn._core import plans
from syncbn.functional._kinds import in_kind
from syncbn.typing import FloatArray, ScalarT


@in_kind
def rms_norm(
    x: NDArray[ScalarT],
    normalized_shape: int | Sequence[int],
    weight: FloatArray | None = None,
    *,
    eps: float | None = None,
) -> tuple[NDArray[ScalarT], Callable[[FloatArray], tuple[NDArray[ScalarT], FloatArray | None]]]:
    r"""Divide by the root mean square over the trailing axes ``normalized_shape``.

    Not collective: the statistics are those of one row.

    .. math:: y = γ\,\frac{x}{\sqrt{\frac{1}{D}\sum x^2 + \mathrm{eps}}}

    A row is the D values in the trailing axes at one position of the other axes. The sum is over a row.

    Parameters
    ----------
    x : ndarray, 1 or more axes
        float16, float32 or float64 values in any memory order. Do not change x before the backward is called.
    normalized_shape : int or sequence of int
        Shape of the trailing axes of x.
    weight : ndarray of shape ``normalized_shape``, optional
        γ. Default: 1.
    eps : float, optional
        Constant added to the mean of the squares, finite and at least 0. Default: ``finfo(x.dtype).eps``;
        for float16 ``finfo(float32).eps``, as in PyTorch.

    Returns
    -------
    y : ndarray
        Result, with x's shape, dtype and memory order.
    backward : callable
        ``dx, dweight = backward(dy)``. dweight has the dtype of the weight, and is None if that is None.

    Raises
    ------
    ValueError, TypeError
        Invalid input, or the shape of x does not end in ``normalized_shape``.

    See Also
    --------
    syncbn.RMSNorm : The layer.
    syncbn.functional.layer_norm : With the mean.

    References
    ----------
    Zhang & Sennrich 2019, arXiv:1910.07467.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import functional as F
    >>> y, backward = F.rms_norm(np.array([[3.0, 4.0]]), 2, eps=0)
    >>> y.round(4), float((y**2).mean().round(12))
    (array([[0.8485, 1.1314]]), 1.0)
    >>> dx, dweight = backward(np.ones_like(y))
    """
    y, gradients = plans.feature_norm(x, normalized_shape, weight, None, eps, False)

    def backward(dy: FloatArray) -> tuple[NDArray[ScalarT], FloatArray | None]:
        """Return dx and dweight, given dy."""
        dx, dweight, _ = gradients(dy)
        return dx, dweight

    return y, backward
