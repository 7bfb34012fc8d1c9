"""Sums over rows; see ext/kernels/row_sums.h."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from syncbn.reference._memory import MaskArray, channels_first
from syncbn.typing import Float64Array, FloatArray

LANES = 16
FLOAT_BLOCK = 128
"""Values that are summed in float32 before they are added up in float64."""


def _lane_sum(values_ncs: FloatArray) -> FloatArray:
    """Sum the last axis: value s goes to lane s mod 16, then lanes j and j + 8, + 4, + 2, + 1."""
    lanes = np.zeros((*values_ncs.shape[:2], LANES), values_ncs.dtype)
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
    x0_nc: Float64Array,
    sum_nc: Float64Array,
    square_nc: Float64Array,
    threads: int,  # noqa: ARG001
) -> None:
    """Find the first selected value x₀ of each row (the mean where that is an outlier), Σ(x − x₀) and Σ(x − x₀)²."""
    x = x_ncs.astype(np.float64)
    selected_ns: NDArray[np.bool_] = mask_ns.astype(bool) if mask_ns.size else np.ones((x.shape[0], x.shape[2]), bool)
    start_n = selected_ns.argmax(axis=1)
    any_n1 = np.any(selected_ns, axis=1, keepdims=True)
    x0_nc[...] = np.where(any_n1, x[np.arange(len(x)), :, start_n], 0.0)
    _sum_from(x, selected_ns, x0_nc, sum_nc, square_nc)
    count_n1 = selected_ns.sum(axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        outlier = sum_nc * sum_nc > 0.9375 * square_nc * count_n1
        x0_nc[outlier] = (x0_nc + sum_nc / count_n1)[outlier]
    again = np.empty_like(sum_nc), np.empty_like(square_nc)
    _sum_from(x, selected_ns, x0_nc, *again)
    sum_nc[outlier], square_nc[outlier] = again[0][outlier], again[1][outlier]


def _sum_from(
    x: Float64Array,
    selected_ns: NDArray[np.bool_],
    origin_nc: Float64Array,
    sum_nc: Float64Array,
    square_nc: Float64Array,
) -> None:
    with np.errstate(all="ignore"):
        d = np.where(selected_ns[:, None, :], x - origin_nc[:, :, None], 0.0)
        sum_nc[...] = _lane_sum(d)
        square_nc[...] = _lane_sum(d * d)


def moment_rows_nsc(
    x_nsc: FloatArray,
    mask_ns: MaskArray,
    # out
    x0_nc: Float64Array,
    sum_nc: Float64Array,
    square_nc: Float64Array,
    threads: int,
) -> None:
    """Find the moments of rows in channels-last memory."""
    moment_rows_ncs(channels_first(x_nsc), mask_ns, x0_nc, sum_nc, square_nc, threads)


def gradient_rows_ncs(
    x_ncs: FloatArray,
    dy_ncs: FloatArray,
    mean_nc: Float64Array,
    # out
    sum_nc: Float64Array,
    product_nc: Float64Array,
    threads: int,  # noqa: ARG001
) -> None:
    """Sum dy and dy·(x − μ) over each row: of float32 in blocks in float32, where that holds them."""
    dy = dy_ncs.astype(np.float64)
    sum_nc[...] = _lane_sum(dy)
    with np.errstate(all="ignore"):
        product_nc[...] = _lane_sum(dy * (x_ncs - mean_nc[:, :, None]))
    if x_ncs.dtype != np.float32 or x_ncs.shape[2] < LANES:
        return
    with np.errstate(all="ignore"):
        center = mean_nc.astype(np.float32)
        sums, products = np.zeros((2, *sum_nc.shape))
        for start in range(0, x_ncs.shape[2], FLOAT_BLOCK):
            block = np.s_[:, :, start : start + FLOAT_BLOCK]
            sums += _lane_sum(dy_ncs[block])
            products += _lane_sum(dy_ncs[block] * (x_ncs[block] - center[:, :, None]))
        held_2nc = [(np.abs(sums_nc) > 2.0**-90) & (np.abs(sums_nc) < np.inf) for sums_nc in (sums, products)]
        held = held_2nc[0] & held_2nc[1] | (sums == 0) & (products == 0)
        sum_nc[held] = sums[held]
        product_nc[held] = (products - (mean_nc - center) * sums)[held]


def gradient_rows_nsc(
    x_nsc: FloatArray,
    dy_nsc: FloatArray,
    mean_nc: Float64Array,
    # out
    sum_nc: Float64Array,
    product_nc: Float64Array,
    threads: int,
) -> None:
    """Sum gradients over rows in channels-last memory."""
    gradient_rows_ncs(channels_first(x_nsc), channels_first(dy_nsc), mean_nc, sum_nc, product_nc, threads)
