"""Instance normalization: statistics of each sample's channel."""

from __future__ import annotations

from syncbn._core import plans
from syncbn.functional.group_norm import AffineBackward
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
    y, *_, backward = plans.instance_norm(x, weight, bias, eps, channel_axis, None)
    return y, backward
