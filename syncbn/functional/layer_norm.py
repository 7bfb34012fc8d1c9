"""Layer normalization: statistics of each sample's trailing axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syncbn._core import plans
from syncbn.typing import FloatArray

FeaturesBackward = Callable[[FloatArray], tuple[FloatArray, FloatArray | None, FloatArray | None]]


def layer_norm(
    x: FloatArray,
    normalized_shape: int | Sequence[int],
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
) -> tuple[FloatArray, FeaturesBackward]:
    r"""Normalize over the trailing axes ``normalized_shape``.

    Not collective: no statistics cross samples.

    .. math:: y = \gamma\,(x-\mu_r)/\sqrt{\mathrm{var}_r+\epsilon} + \beta

    with one mean and biased variance per row r, and γ and β per element of a row.

    Parameters
    ----------
    x : ndarray, 1 or more axes
        float16, float32 or float64, any memory order.
    normalized_shape : int or sequence of int
        The trailing axes of x.
    weight, bias : ndarray of shape ``normalized_shape``, optional
    eps : float
        Finite and at least 0.

    Returns
    -------
    y : ndarray
        x's shape, dtype and memory order.
    backward : callable
        ``dx, dweight, dbias = backward(dy)``.

    Raises
    ------
    ValueError, TypeError
        Bad input, or x does not end in ``normalized_shape``.

    References
    ----------
    Ba, Kiros & Hinton 2016, arXiv:1607.06450.
    """
    found: tuple[FloatArray, FeaturesBackward] = plans.feature_norm(x, normalized_shape, weight, bias, eps, True)
    return found
