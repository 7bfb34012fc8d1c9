"""Batch normalization of the ranks of a communicator; see ext/kernels/distributed.h."""

from __future__ import annotations

from typing import Any

import numpy as np

from syncbn.reference._columns import (
    gradient_absmax_columns,
    gradient_sums_columns,
    moment_ranges_columns,
    moment_sums_columns,
)
from syncbn.reference._exact import (
    gradient_absmax,
    gradient_sums,
    moment_ranges,
    moment_sums,
    moments_from_sums,
    totals_from_sums,
)
from syncbn.reference._float64 import moment_sums_float64, moments_from_sums_float64
from syncbn.reference._gradients import input_gradient_ncs, input_gradient_nsc, relu_gradients
from syncbn.reference._memory import NO_MASK, MaskArray
from syncbn.reference._normalize import normalize_ncs, normalize_nsc
from syncbn.reference._rows import gradient_rows_ncs, gradient_rows_nsc, moment_rows_ncs, moment_rows_nsc
from syncbn.typing import Float64Array, FloatArray


def _columns(x: FloatArray) -> FloatArray:
    return x.reshape(-1, x.shape[2])


def rank_ranges(
    x: FloatArray,
    channels_last: bool,
    mask_ns: MaskArray | None,
    count_n: Float64Array,
    # out
    rows_3nc: Any,
    range_w: Any,
    threads: int,
) -> None:
    """Sum rows, unless they are single values; find the range of rows or columns, unless sums are in float64."""
    mask_ns = NO_MASK if mask_ns is None else mask_ns
    if rows_3nc is not None:
        (moment_rows_nsc if channels_last else moment_rows_ncs)(
            x, mask_ns, rows_3nc[0], rows_3nc[1], rows_3nc[2], threads
        )
    if range_w is None:
        return
    if rows_3nc is None:
        moment_ranges_columns(_columns(x), mask_ns.ravel(), range_w, threads)
        range_w[0] = count_n.max(initial=0)
    else:
        moment_ranges(rows_3nc[0], rows_3nc[1], rows_3nc[2], count_n, range_w)


def rank_sums(
    x: FloatArray,
    channels_last: bool,  # noqa: ARG001
    mask_ns: MaskArray | None,
    count_n: Float64Array,
    rows_3nc: Any,
    range_w: Any,
    # out
    limbs_4c: Any,
    sums_4c: Any,
    threads: int,
) -> None:
    """Sum rows or columns: as limbs of exact sums, or in float64."""
    mask_ns = NO_MASK if mask_ns is None else mask_ns
    if rows_3nc is None and range_w[0] > 1:  # other ranks have longer rows
        rows_3nc = np.zeros((3, len(count_n), x.shape[2]))
        rows_3nc[0] = x[:, 0]
    if rows_3nc is None:
        moment_sums_columns(_columns(x), mask_ns.ravel(), range_w, limbs_4c, threads)
    elif limbs_4c is not None:
        moment_sums(rows_3nc[0], rows_3nc[1], rows_3nc[2], count_n, range_w, limbs_4c)
    else:
        moment_sums_float64(rows_3nc[0], rows_3nc[1], rows_3nc[2], count_n, sums_4c)


def rank_normalize(
    x: FloatArray,
    channels_last: bool,
    count: int,
    range_w: Any,
    limbs_4c: Any,
    sums_4c: Any,
    weight_c: Float64Array | None,
    bias_c: Float64Array | None,
    eps: float,
    residual: FloatArray | None,
    relu: bool,
    # out
    moments_5c: Float64Array,
    y: FloatArray,
    threads: int,
) -> None:
    """Find μ, var, 1/√(var + eps), scale and bias from the sums of all ranks, and y."""
    mean, var, invstd, scale, bias = moments_5c
    if limbs_4c is not None:
        moments_from_sums(limbs_4c, range_w, count, eps, mean, var, invstd)
    else:
        moments_from_sums_float64(sums_4c, count, eps, mean, var, invstd)
    scale[...] = invstd if weight_c is None else weight_c * invstd
    bias[...] = 0.0 if bias_c is None else bias_c
    residual = np.empty((0, 0, 0), x.dtype) if residual is None else residual
    normalize = normalize_nsc if channels_last else normalize_ncs
    normalize(x, mean[None], scale[None], bias, residual, relu, y, threads)


def rank_gradient_ranges(
    x: FloatArray,
    dy: FloatArray,
    channels_last: bool,
    moments_5c: Float64Array,
    y: FloatArray | None,
    # out
    g: Any,
    rows_2nc: Any,
    absmax_2c: Any,
    threads: int,
) -> None:
    """Apply the gradient of relu; sum rows, unless they are single values; find the largest, unless in float64."""
    if y is not None:
        relu_gradients(y, dy, g, threads)
        dy = g
    mean = moments_5c[0]
    if rows_2nc is not None:
        (gradient_rows_nsc if channels_last else gradient_rows_ncs)(
            x, dy, mean[None], rows_2nc[0], rows_2nc[1], threads
        )
    if absmax_2c is None:
        return
    if rows_2nc is None:
        gradient_absmax_columns(_columns(x), _columns(dy), mean, absmax_2c, threads)
    else:
        gradient_absmax(rows_2nc[0], rows_2nc[1], absmax_2c)


def rank_gradient_sums(
    x: FloatArray,
    g: FloatArray,
    channels_last: bool,  # noqa: ARG001
    moments_5c: Float64Array,
    rows_2nc: Any,
    absmax_2c: Any,
    # out
    limbs_4c: Any,
    sums_2c: Any,
    threads: int,
) -> None:
    """Sum g and g·(x − μ): as limbs of exact sums, or in float64."""
    if rows_2nc is None:
        gradient_sums_columns(_columns(x), _columns(g), moments_5c[0], absmax_2c, limbs_4c, threads)
    elif limbs_4c is not None:
        gradient_sums(rows_2nc[0], rows_2nc[1], absmax_2c, limbs_4c)
    else:
        sums_2c[...] = rows_2nc.sum(axis=1)


@np.errstate(all="ignore")
def rank_input_gradient(
    x: FloatArray,
    g: FloatArray,
    channels_last: bool,
    mask_ns: MaskArray | None,
    count: int,
    moments_5c: Float64Array,
    absmax_2c: Any,
    limbs_g4c: Any,
    sums_g2c: Any,
    total: bool,
    # out
    gradients_4c: Float64Array,
    dx: FloatArray,
    threads: int,
) -> None:
    """Find the gradients of weight and bias, of all ranks or this one; those through mean and variance; dx."""
    mean, _, invstd, scale, _ = moments_5c
    if limbs_g4c is not None:
        totals = np.empty((len(limbs_g4c), 2, len(mean)))
        totals_from_sums(limbs_g4c, absmax_2c, totals)
    else:
        totals = sums_g2c
    dy_sum, product_sum = totals[0]
    if count:
        b = scale * (dy_sum / count)
        c = scale * (invstd * (invstd * (product_sum / count)))
    else:
        b = c = np.zeros(len(mean))
    own_dy, own_product = totals[0] if total else totals[1]
    gradients_4c[...] = invstd * own_product, own_dy, b, c
    input_gradient = input_gradient_nsc if channels_last else input_gradient_ncs
    mask_ns = NO_MASK if mask_ns is None else mask_ns
    input_gradient(x, g, mask_ns, mean[None], scale[None], b[None], c[None], dx, threads)
