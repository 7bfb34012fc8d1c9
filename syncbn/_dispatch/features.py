"""Kernels over rows with a weight per feature: allocate and call."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from syncbn._dispatch.kernels import kernels
from syncbn._dispatch.layout import NO_MASK
from syncbn._dispatch.threads import threads_for
from syncbn.typing import Float64Array, FloatArray


class FeatureSums(NamedTuple):
    """Σ dy·weight and Σ dy·weight·(x − μ) of each row (R,); gradients of weight and bias (D,)."""

    sums: Float64Array
    products: Float64Array
    dweight: Float64Array
    dbias: Float64Array


def row_moments(x_rd: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Return the mean and the biased variance of each row, shape (R,)."""
    rows, features = x_rd.shape
    first, deviation, square = (np.empty((rows, 1)) for _ in range(3))
    kernels.moment_rows_ncs(x_rd[:, None, :], NO_MASK, first, deviation, square, threads_for(x_rd.nbytes))
    shift = deviation / features
    return (first + shift)[:, 0], np.maximum(square / features - shift * shift, 0.0)[:, 0]


def row_mean_squares(x_rd: FloatArray) -> Float64Array:
    """Return Σx²/D of each row, shape (R,)."""
    x_rcd = x_rd[:, None, :]
    sums, squares = np.empty((len(x_rd), 1)), np.empty((len(x_rd), 1))
    kernels.gradient_rows_ncs(x_rcd, x_rcd, np.zeros((1, 1)), sums, squares, threads_for(x_rd.nbytes))
    return np.asarray(squares[:, 0] / x_rd.shape[1])


def normalize(
    x_rd: FloatArray, mean_r: Float64Array, scale_r: Float64Array, weight_d: Float64Array, bias_d: Float64Array
) -> FloatArray:
    """Return (x − μ)·scale·weight + bias, shape (R, D)."""
    y_rd = np.empty_like(x_rd)
    kernels.normalize_rows(x_rd, mean_r, scale_r, weight_d, bias_d, y_rd, threads_for(2 * x_rd.nbytes))
    return y_rd


def gradient_sums(
    x_rd: FloatArray, dy_rd: FloatArray, mean_r: Float64Array, scale_r: Float64Array, weight_d: Float64Array
) -> FeatureSums:
    """Return the sums that the gradients are made of."""
    rows, features = x_rd.shape
    sums = FeatureSums(np.empty(rows), np.empty(rows), np.empty(features), np.empty(features))
    kernels.gradient_sums_rows(x_rd, dy_rd, mean_r, scale_r, weight_d, *sums)
    return sums


def input_gradient(
    x_rd: FloatArray,
    dy_rd: FloatArray,
    mean_r: Float64Array,
    scale_r: Float64Array,
    weight_d: Float64Array,
    shift_r: Float64Array,
    slope_r: Float64Array,
) -> FloatArray:
    """Return dx = scale·weight·dy − [shift + slope·(x − μ)], shape (R, D)."""
    dx_rd = np.empty_like(x_rd)
    threads = threads_for(3 * x_rd.nbytes)
    kernels.input_gradient_rows(x_rd, dy_rd, mean_r, scale_r, weight_d, shift_r, slope_r, dx_rd, threads)
    return dx_rd
