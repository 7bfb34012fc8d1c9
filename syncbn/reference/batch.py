"""Batch normalization of one process, made of the other twins; see ext/batch.pyx."""

from __future__ import annotations

import numpy as np

from syncbn.reference._memory import MaskArray
from syncbn.reference.columns import (
    gradient_sums_columns,
    largest_gradients_columns,
    moment_ranges_columns,
    moment_sums_columns,
)
from syncbn.reference.exact import (
    gradient_sums,
    largest_gradients,
    moment_ranges,
    moment_sums,
    moments_from_sums,
    totals_from_sums,
)
from syncbn.reference.float64 import moment_sums_float64, moments_from_sums_float64
from syncbn.reference.gradients import input_gradient_ncs, input_gradient_nsc, relu_gradients
from syncbn.reference.normalize import normalize_ncs, normalize_nsc
from syncbn.reference.rows import gradient_rows_ncs, gradient_rows_nsc, moment_rows_ncs, moment_rows_nsc
from syncbn.typing import Float64Array, FloatArray


def batch_forward(
    x: FloatArray,
    channels_last: bool,
    mask_ns: MaskArray,
    count_n: Float64Array,
    count: int,
    weight_c: Float64Array,
    bias_c: Float64Array,
    eps: float,
    exact: bool,
    residual: FloatArray,
    relu: bool,
    block: int,  # noqa: ARG001
    # out
    rows_3nc: Float64Array,
    moments_5c: Float64Array,
    y: FloatArray,
    threads: int,
) -> None:
    """Rows (or columns), their sums, the moments μ, var and 1/√(var + eps), scale and bias, and y."""
    mean, var, invstd, scale, bias = moments_5c
    channels = len(mean)
    columns = exact and channels_last and x.shape[1] == 1
    if not columns:
        (moment_rows_nsc if channels_last else moment_rows_ncs)(x, mask_ns, *rows_3nc, threads)
    if exact:
        range_w, words = np.empty(1 + 2 * channels), np.empty((4, channels), np.int64)
        if columns:
            x_nc, mask_n = x.reshape(-1, channels), mask_ns.ravel()
            moment_ranges_columns(x_nc, mask_n, range_w, threads)
            moment_sums_columns(x_nc, mask_n, range_w, words, threads)
        else:
            moment_ranges(*rows_3nc, count_n, range_w)
            moment_sums(*rows_3nc, count_n, range_w, words)
        moments_from_sums(words, range_w, count, eps, mean, var, invstd)
    else:
        sums = np.empty((4, channels))
        moment_sums_float64(*rows_3nc, count_n, sums)
        moments_from_sums_float64(sums, count, eps, mean, var, invstd)
    scale[...] = weight_c * invstd if weight_c.size else invstd
    bias[...] = bias_c if bias_c.size else 0.0
    normalize = normalize_nsc if channels_last else normalize_ncs
    normalize(x, mean[None], scale[None], bias, residual, relu, y, threads)


def batch_backward(
    x: FloatArray,
    dy: FloatArray,
    channels_last: bool,
    mask_ns: MaskArray,
    count: int,
    moments_5c: Float64Array,
    exact: bool,
    y: FloatArray,
    block: int,  # noqa: ARG001
    # out
    rows_2nc: Float64Array,
    gradients_4c: Float64Array,
    g: FloatArray,
    dx: FloatArray,
    threads: int,
) -> None:
    """Rows (or columns) of g (dy, through relu where y is given), their sums, and what dx is made of."""
    mean, _, invstd, scale, _ = moments_5c
    channels = len(mean)
    columns = exact and channels_last and x.shape[1] == 1
    if y.size:
        selected = g if g.size else dx
        relu_gradients(y, dy, selected, threads)
        dy = selected
    if not columns:
        (gradient_rows_nsc if channels_last else gradient_rows_ncs)(x, dy, mean[None], *rows_2nc, threads)
    if exact:
        largest, words, totals = np.empty((2, channels)), np.empty((1, 4, channels), np.int64), np.empty((1, 2, channels))
        if columns:
            arrays = (x.reshape(-1, channels), dy.reshape(-1, channels), mean)
            largest_gradients_columns(*arrays, largest, threads)
            gradient_sums_columns(*arrays, largest, words[0], threads)
        else:
            largest_gradients(*rows_2nc, largest)
            gradient_sums(*rows_2nc, largest, words[0])
        totals_from_sums(words, largest, totals)
        total, product = totals[0]
    else:
        total, product = rows_2nc.sum(axis=1)
    with np.errstate(all="ignore"):
        shift = scale * (total / count)
        slope = scale * (invstd * (invstd * (product / count)))
        gradients_4c[...] = invstd * product, total, shift, slope
    input_gradient = input_gradient_nsc if channels_last else input_gradient_ncs
    input_gradient(x, dy, mask_ns, mean[None], scale[None], shift[None], slope[None], dx, threads)
