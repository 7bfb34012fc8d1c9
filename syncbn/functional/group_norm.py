"""Group normalization: statistics of each sample's groups of channels. Instance norm is one channel a group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from syncbn._core import groups as kernels
from syncbn._core import plain
from syncbn._core.checks import check_eps, check_floating, check_parameter, check_same_shape, to_float64
from syncbn._core.conversion import parameter_gradients
from syncbn._core.layout import ChannelLayout, check_channels
from syncbn.typing import Float64Array, FloatArray

AffineBackward = Callable[[FloatArray], tuple[FloatArray, FloatArray | None, FloatArray | None]]


def group_norm(
    x: FloatArray,
    num_groups: int,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
) -> tuple[FloatArray, AffineBackward]:
    r"""Normalize each sample over groups of C/num_groups neighbouring channels and all trailing axes.

    Not collective: no statistics cross samples.

    .. math:: y = \gamma_c\,(x-\mu_{ng})/\sqrt{\mathrm{var}_{ng}+\epsilon} + \beta_c

    Parameters
    ----------
    x : ndarray, 2 or more axes
        float16, float32 or float64, any memory order; the first axis that isn't the channel axis is
        the sample axis.
    num_groups : int
        Divides C.
    weight, bias : ndarray of shape (C,), optional
    eps : float
        Finite and at least 0.
    channel_axis : int

    Returns
    -------
    y : ndarray
        x's shape, dtype and memory order.
    backward : callable
        ``dx, dweight, dbias = backward(dy)``.

    Raises
    ------
    ValueError, TypeError
        Bad input, or ``num_groups`` does not divide C.

    References
    ----------
    Wu & He 2018, arXiv:1803.08494.
    """
    y, _, backward = normalize_groups(x, num_groups, weight, bias, eps, channel_axis)
    return y, backward


class GroupMoments(NamedTuple):
    """Mean and biased variance of each sample's groups, (N, G), and the number of values in each."""

    mean: Float64Array
    var: Float64Array
    size: int


def normalize_groups(
    x: Any, num_groups: int | None, weight: Any, bias: Any, eps: float, channel_axis: int, channels: int | None = None
) -> tuple[FloatArray, GroupMoments, AffineBackward]:
    """Do what `group_norm` says (None: one channel a group), and return the moments too.

    Not collective. ``channels`` is what a layer expects of x.
    """
    if found := normalize_plain(x, num_groups, weight, bias, eps, channel_axis, channels):
        return found
    x = check_floating(x, "x", min_ndim=2)
    layout = ChannelLayout.of(x, channel_axis)
    if channels is not None:
        check_channels(layout, channels)
    groups = _check_groups(num_groups, layout)
    shape = (layout.channels,)
    weight = check_parameter(weight, "weight", shape)
    bias = check_parameter(bias, "bias", shape)
    eps = check_eps(eps)
    x_view = layout.view(x)
    weight64 = to_float64(weight, shape, 1.0)
    y, statistics = kernels.forward(x_view, layout, groups, weight64, to_float64(bias, shape, 0.0), eps)
    mean, var, _ = statistics.moments_3ng
    size = layout.channels // max(groups, 1) * layout.row_size
    backward = _backward(layout, x_view, weight, bias, weight64, statistics)
    return layout.restore(y), GroupMoments(mean, var, size), backward


def normalize_plain(
    x: Any, num_groups: int | None, weight: Any, bias: Any, eps: float, channel_axis: int, channels: int | None
) -> tuple[FloatArray, GroupMoments, AffineBackward] | None:
    """Do the same the short way, or return None where there is none."""
    if plain.groups is None:
        return None
    found = plain.groups.forward(x, num_groups, weight, bias, eps, channel_axis, channels, _backward_of_plain)
    if found is None:
        return None
    y, mean, var, size, backward = found
    return y, GroupMoments(mean, var, size), backward


def _backward(
    layout: ChannelLayout,
    x_view: FloatArray,
    weight: FloatArray | None,
    bias: FloatArray | None,
    weight64: Float64Array,
    statistics: kernels.GroupStatistics,
) -> AffineBackward:
    def backward(dy: FloatArray) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
        dy_view = layout.view(check_same_shape(dy, layout.shape))
        dx, gradients = kernels.backward(x_view, dy_view, layout, weight64, statistics)
        return layout.restore(dx), *parameter_gradients(gradients, weight, bias)

    return backward


def _backward_of_plain(
    x: FloatArray,
    channel_axis: int,
    weight: FloatArray | None,
    bias: FloatArray | None,
    weight64: Float64Array,
    rows_3nc: Float64Array,
    moments_3ng: Float64Array,
) -> AffineBackward:
    """Return the backward of a forward that has gone the short way, for a dy that can't."""
    layout = ChannelLayout.of(x, channel_axis)
    statistics = kernels.GroupStatistics(rows_3nc, moments_3ng)
    return _backward(layout, layout.view(x), weight, bias, weight64, statistics)


def _check_groups(num_groups: int | None, layout: ChannelLayout) -> int:
    if num_groups is None:
        return layout.channels
    if isinstance(num_groups, bool) or not isinstance(num_groups, (int, np.integer)):
        raise TypeError(f"num_groups must be an integer, got {num_groups!r}")
    if num_groups < 1 or layout.channels % num_groups:
        raise ValueError(f"num_groups must divide the {layout.channels} channels of x, got {num_groups}")
    return int(num_groups)
