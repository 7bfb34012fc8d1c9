"""Weight normalization, which computes a weight from a length and a direction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_axis, check_floating, check_same_shape
from syncbn.functional._kinds import in_kind
from syncbn.typing import Float64Array, FloatArray, ScalarT


@in_kind
@np.errstate(all="ignore")  # infinities and NaN are visible in the result
def weight_norm(
    v: NDArray[ScalarT], g: FloatArray, *, axis: int | None = 0
) -> tuple[NDArray[ScalarT], Callable[[FloatArray], tuple[NDArray[ScalarT], FloatArray]]]:
    r"""Return the weight of length g in the direction of v.

    Not collective.

    .. math:: w = g\,\frac{v}{\|v\|}

    There is one norm for each index of ``axis``, over all other axes.

    Parameters
    ----------
    v : ndarray
        Direction, of dtype float16, float32 or float64. Where the norm of v is 0, w is NaN.
    g : ndarray
        Length. As in PyTorch, its size is 1 on all axes except ``axis``; if ``axis`` is None, it is any
        array of one element.
    axis : int or None
        Axis that is not reduced: there is one norm for each of its indices. None means one norm for all of v.

    Returns
    -------
    w : ndarray
        Weight, with v's shape and dtype. Where g is the norm of v, rounded to g's dtype, w is v.
    backward : callable
        ``dv, dg = backward(dw)``, with the shapes and dtypes of v and g.

    Raises
    ------
    ValueError, TypeError
        Invalid input.

    See Also
    --------
    syncbn.WeightNorm : The layer.

    References
    ----------
    Salimans & Kingma 2016, arXiv:1602.07868.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import functional as F
    >>> v = np.array([[3.0, 4.0], [0.0, 2.0]])
    >>> w, backward = F.weight_norm(v, g=np.array([[10.0], [1.0]]))
    >>> w
    array([[6., 8.],
           [0., 1.]])
    >>> dv, dg = backward(np.ones_like(w))
    >>> dg
    array([[1.4],
           [1. ]])
    """
    v = check_floating(v, "v")
    g = check_floating(g, "g")
    kept = None if axis is None else check_axis(axis, v.ndim, "axis")
    others = tuple(i for i in range(v.ndim) if i != kept)
    expected = tuple(size if i == kept else 1 for i, size in enumerate(v.shape))
    if not (g.size == 1 if kept is None else g.shape == expected):
        raise ValueError(f"g must have shape {expected} for v of shape {v.shape} and axis {axis}, got {g.shape}")
    dtype = v.dtype.newbyteorder("=")
    scaled, scaled_norm, exponent = scaled_norms(v, others)
    direction = scaled / scaled_norm
    length = g.astype(np.float64).reshape(scaled_norm.shape)
    norm = np.ldexp(scaled_norm, exponent).astype(g.dtype).reshape(g.shape)
    unchanged = ((g == norm) & (norm > 0)).reshape(scaled_norm.shape)
    w = np.asarray(np.where(unchanged, v, direction * length), dtype)

    @np.errstate(all="ignore")
    def backward(dw: FloatArray) -> tuple[NDArray[ScalarT], FloatArray]:
        """Return dv and dg, given dw."""
        dw64 = check_same_shape(dw, v.shape).astype(np.float64, order="C")
        along = np.sum(dw64 * direction, axis=others, keepdims=True)
        dv = np.ldexp(length / scaled_norm, -exponent) * (dw64 - direction * along)
        return np.asarray(dv, dtype), np.asarray(along.reshape(g.shape), g.dtype.newbyteorder("="))

    return w, backward


def scaled_norms(v: FloatArray, axes: tuple[int, ...]) -> tuple[Float64Array, Float64Array, NDArray[np.intc]]:
    """Return v·2⁻ᵉ, its norms over ``axes``, and e, chosen so that squares neither overflow nor underflow."""
    exponent = np.frexp(np.abs(v).max(axis=axes, keepdims=True, initial=0).astype(np.float64))[1]
    scaled = np.ldexp(v.astype(np.float64, order="C"), -exponent)  # C order, so that sums do not depend on strides
    return scaled, np.sqrt(np.sum(scaled * scaled, axis=axes, keepdims=True)), exponent
