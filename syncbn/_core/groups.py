"""Kernels over each sample's groups of channels: allocate and call."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from syncbn._core.kernels import kernels
from syncbn._core.layout import ChannelLayout
from syncbn._core.threads import threads_for
from syncbn.typing import Float64Array, FloatArray


class GroupStatistics(NamedTuple):
    """rows_3nc: μ, scale and bias of each row. moments_3ng: μ, var (biased) and 1/√(var + eps) of each group."""

    rows_3nc: Float64Array
    moments_3ng: Float64Array


def forward(
    x: FloatArray, layout: ChannelLayout, groups: int, weight_c: Float64Array, bias_c: Float64Array, eps: float
) -> tuple[FloatArray, GroupStatistics]:
    """Return y as kernels see it, and what it is made with."""
    y = np.empty_like(x)
    samples, channels = layout.samples, layout.channels
    statistics = GroupStatistics(np.zeros((3, samples, channels)), np.zeros((3, samples, groups)))
    if x.size:
        threads = threads_for(2 * x.nbytes)
        kernels.group_forward(x, layout.channels_last, weight_c, bias_c, eps, *statistics, y, threads)
    return y, statistics


def backward(
    x: FloatArray, dy: FloatArray, layout: ChannelLayout, weight_c: Float64Array, statistics: GroupStatistics
) -> tuple[FloatArray, Float64Array]:
    """Return dx as kernels see it, and the gradients of weight and bias, (2, C)."""
    dx = np.empty_like(x)
    gradients_2c = np.zeros((2, layout.channels))
    if x.size:
        factors_4nc = np.empty((4, layout.samples, layout.channels))
        threads = threads_for(3 * x.nbytes)
        last = layout.channels_last
        kernels.group_backward(x, dy, last, weight_c, *statistics, factors_4nc, gradients_2c, dx, threads)
    return dx, gradients_2c
