"""Batch normalization of one process, made of the other twins; see ext/batch.pyx."""

from __future__ import annotations

from typing import Any

import numpy as np

from syncbn.reference._memory import NO_MASK, MaskArray
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
    mask_ns: MaskArray | None,
    count_n: Float64Array,
    count: int,
    weight_c: Float64Array | None,
    bias_c: Float64Array | None,
    eps: float,
    exact: bool,
    residual: FloatArray | None,
    relu: bool,
    block: int,  # noqa: ARG001
    # out
    rows_3nc: Any,
    moments_5c: Float64Array,
    y: FloatArray,
    threads: int,
) -> None:
    """Rows (or columns), their sums, the moments μ, var and 1/√(var + eps), scale and bias, and y."""
    mean, var, invstd, scale, bias = moments_5c
    channels = len(mean)
    mask_ns = NO_MASK if mask_ns is None else mask_ns
    if rows_3nc is not None:
        (moment_rows_nsc if channels_last else moment_rows_ncs)(
            x, mask_ns, rows_3nc[0], rows_3nc[1], rows_3nc[2], threads
        )
    if exact:
        range_w, words = np.empty(1 + 2 * channels), np.empty((4, channels), np.int64)
        if rows_3nc is None:
            x_nc, mask_n = x.reshape(-1, channels), mask_ns.ravel()
            moment_ranges_columns(x_nc, mask_n, range_w, threads)
            moment_sums_columns(x_nc, mask_n, range_w, words, threads)
        else:
            moment_ranges(rows_3nc[0], rows_3nc[1], rows_3nc[2], count_n, range_w)
            moment_sums(rows_3nc[0], rows_3nc[1], rows_3nc[2], count_n, range_w, words)
        moments_from_sums(words, range_w, count, eps, mean, var, invstd)
    elif rows_3nc is not None:
        sums = np.empty((4, channels))
        moment_sums_float64(rows_3nc[0], rows_3nc[1], rows_3nc[2], count_n, sums)
        moments_from_sums_float64(sums, count, eps, mean, var, invstd)
    scale[...] = invstd if weight_c is None else weight_c * invstd
    bias[...] = 0.0 if bias_c is None else bias_c
    residual = np.empty((0, 0, 0), x.dtype) if residual is None else residual
    normalize = normalize_nsc if channels_last else normalize_ncs
    normalize(x, mean[None], scale[None], bias, residual, relu, y, threads)


@np.errstate(all="ignore")
def batch_inference(
    x: FloatArray,
    channels_last: bool,
    mean_c: Float64Array,
    var_c: Float64Array,
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
    """μ, var, 1/√(var + eps), scale and bias, and y, with given statistics."""
    invstd = 1 / np.sqrt(var_c + eps)
    scale = invstd if weight_c is None else weight_c * invstd
    bias = np.zeros(len(mean_c)) if bias_c is None else bias_c
    moments_5c[...] = mean_c, var_c, invstd, scale, bias
    residual = np.empty((0, 0, 0), x.dtype) if residual is None else residual
    normalize = normalize_nsc if channels_last else normalize_ncs
    normalize(x, mean_c[None], scale[None], bias, residual, relu, y, threads)


def batch_backward(
    x: FloatArray,
    dy: FloatArray,
    channels_last: bool,
    mask_ns: MaskArray | None,
    count: int,
    moments_5c: Float64Array,
    exact: bool,
    y: FloatArray | None,
    block: int,  # noqa: ARG001
    # out
    rows_2nc: Any,
    gradients_4c: Float64Array,
    g: Any,
    dx: FloatArray,
    threads: int,
) -> None:
    """Rows (or columns) of g (dy, through relu where y is given), their sums, and what dx is made of."""
    mean, _, invstd, scale, _ = moments_5c
    channels = len(mean)
    if y is not None:
        selected = dx if g is None else g
        relu_gradients(y, dy, selected, threads)
        dy = selected
    if rows_2nc is not None:
        (gradient_rows_nsc if channels_last else gradient_rows_ncs)(
            x, dy, mean[None], rows_2nc[0], rows_2nc[1], threads
        )
    if exact:
        largest, words, totals = (
            np.empty((2, channels)),
            np.empty((1, 4, channels), np.int64),
            np.empty((1, 2, channels)),
        )
        if rows_2nc is None:
            arrays = (x.reshape(-1, channels), dy.reshape(-1, channels), mean)
            largest_gradients_columns(*arrays, largest, threads)
            gradient_sums_columns(*arrays, largest, words[0], threads)
        else:
            largest_gradients(rows_2nc[0], rows_2nc[1], largest)
            gradient_sums(rows_2nc[0], rows_2nc[1], largest, words[0])
        totals_from_sums(words, largest, totals)
        total, product = totals[0]
    elif rows_2nc is not None:
        total, product = rows_2nc.sum(axis=1)
    with np.errstate(all="ignore"):
        if count:
            shift = scale * (total / count)
            slope = scale * (invstd * (invstd * (product / count)))
        else:
            shift = slope = np.zeros(channels)
        gradients_4c[...] = invstd * product, total, shift, slope
    input_gradient = input_gradient_nsc if channels_last else input_gradient_ncs
    mask_ns = NO_MASK if mask_ns is None else mask_ns
    input_gradient(x, dy, mask_ns, mean[None], scale[None], shift[None], slope[None], dx, threads)
