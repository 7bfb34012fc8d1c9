"""Batch normalization in exact rationals, except the square root, which is rounded to 120 digits."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from mpmath import MPContext
from numpy.typing import NDArray

Array = NDArray[Any]

_mp = MPContext()
_mp.dps = 120


class Expected(NamedTuple):
    """Object arrays of real numbers; mean, var, dweight, dbias and the following have shape (C,).

    condition is 1 + |mean|/std. The magnitudes of terms that may cancel are dx_terms, the maximum of
    |γ|/std·[|dy| + Σ|dy|/n + |x̂|·Σ|dy·x̂|/n], dweight_terms = Σ|dy·x̂| and dbias_terms = Σ|dy|.
    """

    y: Array
    mean: Array
    var: Array
    dx: Array
    dweight: Array
    dbias: Array
    condition: Array
    dx_terms: Array
    dweight_terms: Array
    dbias_terms: Array


def _rational(a: Array) -> Array:
    return np.frompyfunc(lambda value: Fraction(float(value)), 1, 1)(a)


def _real(value: Fraction) -> Any:
    return _mp.mpf(value.numerator) / value.denominator


_reals = np.frompyfunc(_real, 1, 1)


def batch_norm(
    x: Array,
    dy: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    mask: Array | None = None,
) -> Expected:
    """Normalize x of shape (N, C, ...); if var + eps = 0, y is the bias and dx is 0."""
    channels = range(x.shape[1])
    weight = np.ones(len(channels)) if weight is None else weight
    bias = np.zeros(len(channels)) if bias is None else bias
    mask = np.ones_like(x[:, 0], bool) if mask is None else mask
    columns = [_channel(x[:, c], dy[:, c], mask, weight[c], bias[c], eps) for c in channels]
    whole = [np.stack(parts, axis=1) if np.ndim(parts[0]) else np.array(parts) for parts in zip(*columns, strict=True)]
    return Expected(*whole)


def _channel(x: Array, dy: Array, mask: Array, weight: float, bias: float, eps: float) -> tuple[Any, ...]:
    x, dy = _rational(x), _rational(dy)
    gamma, beta, epsilon = (Fraction(float(value)) for value in (weight, bias, eps))
    count = int(mask.sum())
    mean = x[mask].sum() / count
    centred = x - mean
    var = (centred[mask] ** 2).sum() / count
    condition = 1 + (_real(abs(mean)) / _mp.sqrt(_real(var)) if var else 0)
    if var + epsilon == 0:
        zero, zeros = _mp.zero, _reals(0 * x)
        sums = _real(dy.sum()), _real(abs(dy).sum())
        return zeros + _real(beta), _real(mean), zero, zeros, zero, sums[0], condition, zero, zero, sums[1]
    std = _mp.sqrt(_real(var + epsilon))

    def gradient(dy: Array, product: Array, centred: Array, sign: int) -> Array:
        through = (dy.sum() + centred * (product.sum() / (var + epsilon))) / count
        return _reals(gamma * (dy + sign * mask * through)) / std

    magnitudes = abs(dy), abs(dy * centred), abs(centred)
    return (
        _reals(gamma * centred) / std + _real(beta),
        _real(mean),
        _real(var),
        gradient(dy, dy * centred, centred, -1),
        _real((dy * centred).sum()) / std,
        _real(dy.sum()),
        condition,
        abs(gradient(*magnitudes, 1)).max(),
        _real(magnitudes[1].sum()) / std,
        _real(magnitudes[0].sum()),
    )


def largest(a: Array) -> Array:
    """Return the largest magnitude in each channel of an array of shape (N, C, ...)."""
    return np.abs(a).max(axis=(0, *range(2, a.ndim)))


def error(actual: Array, expected: Array) -> Array:
    """Return the largest |actual − expected| in each channel of (N, C, ...), or of each entry of (C,).

    It is infinite where ``actual`` is not finite, unless the expected value overflows in its dtype as well.
    """
    finite = np.isfinite(actual)
    difference = np.abs(_reals(_rational(np.where(finite, actual, 0))) - expected)
    with np.errstate(over="ignore"):
        overflow = expected.astype(np.float64).astype(actual.dtype)
    difference[~finite] = np.where(actual == overflow, 0, _mp.inf)[~finite]
    return largest(difference) if actual.ndim > 1 else difference
