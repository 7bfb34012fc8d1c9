"""Layer normalization, whose statistics are those of the trailing axes of each sample."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike, NDArray

from syncbn._core import plans
from syncbn.functional._kinds import in_kind
from syncbn.typing import AffineBackwardOf, FloatArray, ScalarT


@in_kind
def layer_norm(
    x: NDArray[ScalarT],
    normalized_shape: int | Sequence[int],
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    mask: ArrayLike | None = None,
) -> tuple[NDArray[ScalarT], AffineBackwardOf[ScalarT]]:
    r"""Normalize over the trailing axes ``normalized_shape``.

    Not collective: the statistics are those of one row.

    .. math:: y = γ\,\frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}} + β

    A row is the values in the trailing axes at one position of the other axes. Each row has a mean μ and a biased
    variance var; γ and β have one value for each position in a row.

    Parameters
    ----------
    x : ndarray, 1 or more axes
        float16, float32 or float64 values in any memory order. Do not change x before the backward is called.
    normalized_shape : int or sequence of int
        Shape of the trailing axes of x.
    weight, bias : ndarray of shape ``normalized_shape``, optional
        γ and β. Defaults: 1 and 0.
    eps : float
        Constant added to the variance, finite and at least 0.
    mask : array of bool, optional
        Selection of elements, broadcastable to x: the padding of a row can differ between its channels. The
        statistics are those of the selected elements of the row; all elements are normalized with them. The mask is
        copied. With a mask, the computation is in NumPy and float64, which takes several times as long.

    Returns
    -------
    y : ndarray
        Result, with x's shape, dtype and memory order.
    backward : callable
        ``dx, dweight, dbias = backward(dy)``. dweight and dbias have the dtypes of weight and bias, and are
        None if these are None.

    Raises
    ------
    ValueError, TypeError
        Invalid input, or the shape of x does not end in ``normalized_shape``.

    See Also
    --------
    syncbn.LayerNorm : The layer.
    syncbn.functional.rms_norm : Without the mean.

    References
    ----------
    Ba, Kiros & Hinton 2016, arXiv:1607.06450.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import functional as F
    >>> x = np.arange(6.0).reshape(2, 3)
    >>> y, backward = F.layer_norm(x, (3,), eps=0)
    >>> y.round(4)
    array([[-1.2247,  0.    ,  1.2247],
           [-1.2247,  0.    ,  1.2247]])
    >>> dx, dweight, dbias = backward(np.ones_like(x))
    >>> dweight is None
    True
    """
    found: tuple[NDArray[ScalarT], AffineBackwardOf[ScalarT]] = plans.feature_norm(
        x, normalized_shape, weight, bias, eps, True, mask
    )
    return found
