"""Group normalization: statistics of each sample's groups of channels. Instance norm is one channel a group."""

from __future__ import annotations

from collections.abc import Callable

from syncbn._core import plans
from syncbn.typing import FloatArray

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
    y, *_, backward = plans.group_norm(x, num_groups, weight, bias, eps, channel_axis, None)
    return y, backward
