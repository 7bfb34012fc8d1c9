"""Kernels over channels, for both memory orders: allocate, pick the one that fits, call."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from syncbn._dispatch.kernels import kernels
from syncbn._dispatch.layout import ChannelLayout
from syncbn.typing import BoolArray, Float64Array, FloatArray

MaskArray = NDArray[np.uint8]
NO_MASK: MaskArray = np.zeros((0, 0), np.uint8)


class Rows(NamedTuple):
    """What each row (one sample's values in one channel) gives to the moments, shape (N, C) each.

    first: x₀, the first value; deviation: Σ(x − x₀); square: Σ(x − x₀)²; counts (N,): values per row.
    """

    first: Float64Array
    deviation: Float64Array
    square: Float64Array
    counts: Float64Array


def mask_view(mask: Any, layout: ChannelLayout) -> MaskArray:
    """Return ``mask`` as (N, S) bytes, or raise when it isn't boolean or doesn't broadcast."""
    if mask is None:
        return NO_MASK
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"mask must have dtype bool, got {mask.dtype}")
    try:
        full: BoolArray = np.broadcast_to(mask, layout.shape_ns)
    except ValueError:
        raise ValueError(
            f"mask must be broadcastable to x without its channel axis, {layout.shape_ns}, got shape {mask.shape}"
        ) from None
    return np.ascontiguousarray(full).reshape(layout.samples, layout.row_size).view(np.uint8)


def _kernel(name: str, layout: ChannelLayout) -> Any:
    return getattr(kernels, f"{name}_nsc" if layout.channels_last else f"{name}_ncs")


def moment_rows(x: FloatArray, layout: ChannelLayout, mask_ns: MaskArray = NO_MASK) -> Rows:
    """Sum the rows of ``x`` (a view of ``layout``)."""
    shape = (layout.samples if x.size else 0, layout.channels)
    rows = Rows(np.empty(shape), np.empty(shape), np.empty(shape), _counts(shape[0], layout, mask_ns))
    if x.size:
        _kernel("moment_rows", layout)(x, mask_ns, rows.first, rows.deviation, rows.square)
    return rows


def _counts(samples: int, layout: ChannelLayout, mask_ns: MaskArray) -> Float64Array:
    if mask_ns.size:
        return np.asarray(mask_ns.sum(axis=1), np.float64)
    return np.full(samples, float(layout.row_size))


def gradient_rows(
    x: FloatArray, dy: FloatArray, layout: ChannelLayout, mean_nc: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Return Σ dy and Σ dy·(x − μ) of each row, shape (N, C)."""
    shape = (layout.samples if x.size else 0, layout.channels)
    sums, products = np.empty(shape), np.empty(shape)
    if x.size:
        _kernel("gradient_rows", layout)(x, dy, mean_nc, sums, products)
    return sums, products


def normalize(
    x: FloatArray, layout: ChannelLayout, mean_nc: Float64Array, scale_nc: Float64Array, bias_c: Float64Array
) -> FloatArray:
    """Return y = (x − μ)·scale + bias, in the array's own shape, dtype and memory order."""
    y = np.empty_like(x)
    if x.size:
        _kernel("normalize", layout)(x, mean_nc, scale_nc, bias_c, y)
    return layout.restore(y)


def input_gradient(
    x: FloatArray,
    dy: FloatArray,
    layout: ChannelLayout,
    mean_nc: Float64Array,
    direct_nc: Float64Array,
    shift_nc: Float64Array,
    slope_nc: Float64Array,
    mask_ns: MaskArray = NO_MASK,
) -> FloatArray:
    """Return dx = direct·dy − mask·[shift + slope·(x − μ)], in the array's own shape, dtype and memory order."""
    dx = np.empty_like(x)
    if x.size:
        _kernel("input_gradient", layout)(x, dy, mask_ns, mean_nc, direct_nc, shift_nc, slope_nc, dx)
    return layout.restore(dx)
