"""Kernels over rows of features, each with a weight of its own: allocate and call."""

from __future__ import annotations

import numpy as np

from syncbn._core.kernels import kernels
from syncbn._core.threads import threads_for
from syncbn.typing import Float64Array, FloatArray

PARTS = 8
"""Of the rows, whose gradients of the weights are summed apart: the bits follow from their number, so it is fixed."""


def forward(
    x_rd: FloatArray, weight_d: Float64Array, bias_d: Float64Array, eps: float, centred: bool
) -> tuple[FloatArray, Float64Array]:
    """Return y (R, D), and (2, R): μ (0 unless ``centred``), and 1/√(mean of (x − μ)² + eps)."""
    y_rd = np.empty_like(x_rd)
    moments_2r = np.empty((2, len(x_rd)))
    if x_rd.size:
        kernels.feature_forward(x_rd, weight_d, bias_d, eps, centred, moments_2r, y_rd, threads_for(2 * x_rd.nbytes))
    return y_rd, moments_2r


def backward(
    x_rd: FloatArray, dy_rd: FloatArray, weight_d: Float64Array, centred: bool, moments_2r: Float64Array
) -> tuple[FloatArray, Float64Array]:
    """Return dx (R, D), and the gradients of weight and bias, (2, D)."""
    rows, features = x_rd.shape
    dx_rd = np.empty_like(x_rd)
    gradients_2d = np.zeros((2, features))
    if x_rd.size:
        parts_2pd = np.empty((2, min(PARTS, rows), features))
        threads = threads_for(3 * x_rd.nbytes)
        kernels.feature_backward(x_rd, dy_rd, weight_d, centred, moments_2r, parts_2pd, gradients_2d, dx_rd, threads)
    return dx_rd, gradients_2d
