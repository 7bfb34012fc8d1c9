"""Sums over rows; see ext/rows.pxd."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from syncbn.reference._memory import MaskArray, channels_first
from syncbn.typing import Float64Array, FloatArray

LANES = 16


def _lane_sum(values_ncs: Float64Array) -> Float64Array:
    """Sum the last axis: value s goes to lane s mod 16, then lanes j and j + 8, + 4, + 2, + 1."""
    lanes = np.zeros((*values_ncs.shape[:2], LANES))
    for start in range(0, values_ncs.shape[2], LANES):
        block = values_ncs[:, :, start : start + LANES]
        lanes[:, :, : block.shape[2]] += block
    width = LANES
    while width > 1:
        width //= 2
        lanes = lanes[:, :, :width] + lanes[:, :, width:]
    return lanes[:, :, 0]


def moment_rows_ncs(
    x_ncs: FloatArray,
    mask_ns: MaskArray,
    # out
    first_nc: Float64Array,
    deviation_nc: Float64Array,
    square_nc: Float64Array,
    threads: int,  # noqa: ARG001
) -> None:
    """First value x₀ (the mean where that is far out), Σ(x − x₀) and Σ(x − x₀)² of each row's selected values."""
    x = x_ncs.astype(np.float64)
    selected_ns: NDArray[np.bool_] = mask_ns.astype(bool) if mask_ns.size else np.ones((x.shape[0], x.shape[2]), bool)
    start_n = selected_ns.argmax(axis=1)
    any_n1 = np.any(selected_ns, axis=1, keepdims=True)
    first_nc[...] = np.where(any_n1, x[np.arange(len(x)), :, start_n], 0.0)
    _sum_from(x, selected_ns, first_nc, deviation_nc, square_nc)
    count_n1 = selected_ns.sum(axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        far_out = deviation_nc * deviation_nc > 0.9375 * square_nc * count_n1
        first_nc[far_out] = (first_nc + deviation_nc / count_n1)[far_out]
    again = np.empty_like(deviation_nc), np.empty_like(square_nc)
    _sum_from(x, selected_ns, first_nc, *again)
    deviation_nc[far_out], square_nc[far_out] = again[0][far_out], again[1][far_out]


def _sum_from(
    x: Float64Array,
    selected_ns: NDArray[np.bool_],
    origin_nc: Float64Array,
    deviation_nc: Float64Array,
    square_nc: Float64Array,
) -> None:
    with np.errstate(all="ignore"):
        d = np.where(selected_ns[:, None, :], x - origin_nc[:, :, None], 0.0)
        deviation_nc[...] = _lane_sum(d)
        square_nc[...] = _lane_sum(d * d)


def moment_rows_nsc(
    x_nsc: FloatArray,
    mask_ns: MaskArray,
    # out
    first_nc: Float64Array,
    deviation_nc: Float64Array,
    square_nc: Float64Array,
    threads: int,
) -> None:
    """`moment_rows_ncs` of channels-last memory."""
    moment_rows_ncs(channels_first(x_nsc), mask_ns, first_nc, deviation_nc, square_nc, threads)


def gradient_rows_ncs(
    x_ncs: FloatArray,
    dy_ncs: FloatArray,
    mean_nc: Float64Array,
    # out
    sum_nc: Float64Array,
    product_nc: Float64Array,
    threads: int,  # noqa: ARG001
) -> None:
    """Σ dy and Σ dy·(x − μ) of each row."""
    dy = dy_ncs.astype(np.float64)
    sum_nc[...] = _lane_sum(dy)
    product_nc[...] = _lane_sum(dy * (x_ncs - mean_nc[:, :, None]))


def gradient_rows_nsc(
    x_nsc: FloatArray,
    dy_nsc: FloatArray,
    mean_nc: Float64Array,
    # out
    sum_nc: Float64Array,
    product_nc: Float64Array,
    threads: int,
) -> None:
    """`gradient_rows_ncs` of channels-last memory."""
    gradient_rows_ncs(channels_first(x_nsc), channels_first(dy_nsc), mean_nc, sum_nc, product_nc, threads)
