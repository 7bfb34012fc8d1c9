"""Group normalization: statistics of each sample's groups of channels. Instance norm is one channel a group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from syncbn._dispatch import channels as kernels
from syncbn._dispatch.checks import check_eps, check_floating, check_parameter, check_same_shape, to_float64
from syncbn._dispatch.gradients import gradient_rows
from syncbn._dispatch.layout import NO_MASK, ChannelLayout
from syncbn._dispatch.moments import Rows, moment_rows
from syncbn.functional._inverse import inverse_std
from syncbn.typing import BoolArray, Float64Array, FloatArray

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


@np.errstate(all="ignore")  # infinities and NaN of the result say it
def normalize_groups(
    x: Any, num_groups: int | None, weight: Any, bias: Any, eps: float, channel_axis: int
) -> tuple[FloatArray, GroupMoments, AffineBackward]:
    """Do what `group_norm` says (None: one channel a group), and return the moments too. Not collective."""
    x = check_floating(x, "x", min_ndim=2)
    layout = ChannelLayout.of(x, channel_axis)
    groups = _check_groups(num_groups, layout)
    shape = (layout.channels,)
    weight = check_parameter(weight, "weight", shape)
    bias = check_parameter(bias, "bias", shape)
    eps = check_eps(eps)
    x_view = layout.view(x)
    moments = _group_moments(moment_rows(x_view, layout, NO_MASK), groups, layout.row_size)
    invstd_ng = inverse_std(moments.var, eps, lambda: _constant_groups(x_view, layout, groups))
    size = layout.channels // max(groups, 1)
    mean_nc, invstd_nc = moments.mean.repeat(size, axis=1), invstd_ng.repeat(size, axis=1)
    weight64 = to_float64(weight, shape, 1.0)
    scale_nc = invstd_nc * weight64
    y = kernels.normalize(x_view, layout, mean_nc, scale_nc, to_float64(bias, shape, 0.0))

    @np.errstate(all="ignore")
    def backward(dy: FloatArray) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
        dy_view = layout.view(check_same_shape(dy, layout.shape))
        sum_nc, product_nc = gradient_rows(x_view, dy_view, layout, mean_nc)
        by_group = (len(sum_nc), groups, size)
        count = max(moments.size, 1)
        shift_ng = invstd_ng * (sum_nc * weight64).reshape(by_group).sum(axis=2) / count
        products_ng = (product_nc * weight64).reshape(by_group).sum(axis=2)
        slope_ng = invstd_ng * (invstd_ng * (invstd_ng * products_ng)) / count  # the cube might overflow
        shift_nc, slope_nc = shift_ng.repeat(size, axis=1), slope_ng.repeat(size, axis=1)
        dx = kernels.input_gradient(x_view, dy_view, layout, mean_nc, scale_nc, shift_nc, slope_nc)
        dweight = None if weight is None else (product_nc * invstd_nc).sum(axis=0).astype(weight.dtype)
        dbias = None if bias is None else sum_nc.sum(axis=0).astype(bias.dtype)
        return layout.restore(dx), dweight, dbias

    return layout.restore(y), moments, backward


def _check_groups(num_groups: int | None, layout: ChannelLayout) -> int:
    if num_groups is None:
        return layout.channels
    if isinstance(num_groups, bool) or not isinstance(num_groups, (int, np.integer)):
        raise TypeError(f"num_groups must be an integer, got {num_groups!r}")
    if num_groups < 1 or layout.channels % num_groups:
        raise ValueError(f"num_groups must divide the {layout.channels} channels of x, got {num_groups}")
    return int(num_groups)


def _group_moments(rows: Rows, groups: int, row_size: int) -> GroupMoments:
    """Combine the rows of each group, shifted by the group's first value."""
    samples, channels = rows.first.shape
    by_group = (samples, groups, channels // max(groups, 1))
    first, deviation, square = (row.reshape(by_group) for row in rows[:3])
    count = by_group[2] * row_size
    origin = first[:, :, :1]
    centre = (row_size * (first - origin) + deviation).sum(axis=2, keepdims=True) / max(count, 1)
    offset = (first - origin) - centre
    m2 = (square + 2 * offset * deviation + row_size * offset * offset).sum(axis=2)
    mean = (origin + centre).reshape(samples, groups)
    return GroupMoments(mean, np.maximum(m2, 0.0) / max(count, 1), count)


def _constant_groups(x: FloatArray, layout: ChannelLayout, groups: int) -> BoolArray:
    """Tell which groups of ``x`` (a view of ``layout``) have one value alone, (N, G)."""
    size = layout.channels // groups
    if layout.channels_last:
        x_nsgc = x.reshape(layout.samples, layout.row_size, groups, size)
        return np.asarray((x_nsgc == x_nsgc[:, :1, :, :1]).all(axis=(1, 3)))
    x_ngs = x.reshape(layout.samples, groups, size * layout.row_size)
    return np.asarray((x_ngs == x_ngs[:, :, :1]).all(axis=2))
