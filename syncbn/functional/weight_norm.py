"""Weight normalization: a weight as length times direction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from syncbn._dispatch.checks import check_axis, check_floating, check_same_shape
from syncbn.typing import Float64Array, FloatArray


def weight_norm(
    v: FloatArray, g: FloatArray, *, axis: int | None = 0
) -> tuple[FloatArray, Callable[[FloatArray], tuple[FloatArray, FloatArray]]]:
    r"""Return the weight of length g in the direction of v.

    Not collective.

    .. math:: w = g\,v/\lVert v\rVert

    with one norm per entry of ``axis``, over all other axes.

    Parameters
    ----------
    v : ndarray
        Direction; float16, float32 or float64. A zero direction has no norm: w is NaN there.
    g : ndarray
        Length, of size 1 on all axes but ``axis``, as PyTorch keeps it; any array of one element
        where ``axis`` is None.
    axis : int or None
        None is one norm for all of v.

    Returns
    -------
    w : ndarray
        v's shape and dtype.
    backward : callable
        ``dv, dg = backward(dw)``, of v's and g's shapes.

    Raises
    ------
    ValueError, TypeError
        Bad input.

    References
    ----------
    Salimans & Kingma 2016, arXiv:1602.07868.
    """
    v = check_floating(v, "v")
    g = check_floating(g, "g")
    kept = None if axis is None else check_axis(axis, v.ndim, "axis")
    others = tuple(i for i in range(v.ndim) if i != kept)
    expected = tuple(size if i == kept else 1 for i, size in enumerate(v.shape))
    if not (g.size == 1 if kept is None else g.shape == expected):
        raise ValueError(f"g must have shape {expected} for v of shape {v.shape} and axis {axis}, got {g.shape}")
    v64 = v.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        norm: Float64Array = np.sqrt(np.sum(v64 * v64, axis=others, keepdims=True))
        direction = v64 / norm
        length_over_norm = g.astype(np.float64).reshape(norm.shape) / norm
    w = (direction * g.astype(np.float64).reshape(norm.shape)).astype(v.dtype)

    def backward(dw: FloatArray) -> tuple[FloatArray, FloatArray]:
        dw64 = check_same_shape(dw, v.shape).astype(np.float64)
        along = np.sum(dw64 * direction, axis=others, keepdims=True)
        dv = length_over_norm * (dw64 - direction * along)
        return dv.astype(v.dtype), along.reshape(g.shape).astype(g.dtype)

    return w, backward
