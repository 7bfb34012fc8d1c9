"""Instance normalization: statistics of each sample's channel."""

from __future__ import annotations

import math

from syncbn._core.checks import check_axis, check_floating
from syncbn.functional.group_norm import AffineBackward, GroupMoments, normalize_groups, normalize_plain
from syncbn.typing import FloatArray


def instance_norm(
    x: FloatArray,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
) -> tuple[FloatArray, AffineBackward]:
    r"""Normalize each channel of each sample over its trailing axes.

    Not collective: no statistics cross samples.

    .. math:: y = \gamma_c\,(x-\mu_{nc})/\sqrt{\mathrm{var}_{nc}+\epsilon} + \beta_c

    Parameters
    ----------
    x : ndarray, 2 or more axes
        float16, float32 or float64, any memory order.
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
        Bad input, or one value per channel and sample.

    References
    ----------
    Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022.
    """
    y, _, backward = normalize_instances(x, weight, bias, eps, channel_axis)
    return y, backward


def normalize_instances(
    x: FloatArray,
    weight: FloatArray | None,
    bias: FloatArray | None,
    eps: float,
    channel_axis: int,
    channels: int | None = None,
) -> tuple[FloatArray, GroupMoments, AffineBackward]:
    """Do what `instance_norm` says, and return the moments too.

    Not collective. ``channels`` is what a layer expects of x.
    """
    if found := normalize_plain(x, None, weight, bias, eps, channel_axis, channels):
        return found
    x = check_floating(x, "x", min_ndim=2)
    axis = check_axis(channel_axis, x.ndim)
    trailing = [size for i, size in enumerate(x.shape) if i != axis][1:]
    if math.prod(trailing) == 1:
        raise ValueError(
            f"instance normalization needs more than 1 value per channel of each sample, got shape {x.shape}"
        )
    return normalize_groups(x, None, weight, bias, eps, channel_axis, channels)
