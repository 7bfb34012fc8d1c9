"""Kinds of values whose sums have large rounding errors, for float16, float32 and float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Rng = np.random.Generator

LARGEST_SCALE = {"float16": 3.0, "float32": 30.0, "float64": 100.0}
"""Largest exponents of ten; cubes of such values do not overflow in float64."""


def normal(rng: Rng, shape: tuple[int, ...], _dtype: str) -> Array:
    return rng.standard_normal(shape)


def offset(rng: Rng, shape: tuple[int, ...], dtype: str) -> Array:
    """Draw values with means of up to 1e3, 1e7 and 1e14 standard deviations, the limits of the dtypes."""
    return rng.standard_normal(shape) + 10 ** rng.uniform(0, {"float16": 3, "float32": 7, "float64": 14}[dtype])


def mixed_scales(rng: Rng, shape: tuple[int, ...], dtype: str) -> Array:
    """Draw rows and channels of all magnitudes."""
    power = rng.uniform(-1, 1, (*shape[:2], *[1] * (len(shape) - 2))) * LARGEST_SCALE[dtype]
    return rng.standard_normal(shape) * 10**power


def outlier(rng: Rng, shape: tuple[int, ...], dtype: str) -> Array:
    x = rng.standard_normal(shape)
    x.flat[rng.integers(x.size)] = min(1e20, 0.9 * float(np.finfo(dtype).max))
    return x


def cancelling(rng: Rng, shape: tuple[int, ...], dtype: str) -> Array:
    """Draw rows of all magnitudes and their negatives in random order, and one or two rows without a negative."""
    pairs = (shape[0] - 1) // 2
    power = rng.uniform(0, min(20, LARGEST_SCALE[dtype]), (pairs, *[1] * (len(shape) - 1)))
    half = rng.standard_normal((pairs, *shape[1:])) * 10**power
    rest = rng.standard_normal((shape[0] - 2 * pairs, *shape[1:]))
    return rng.permutation(np.concatenate([half, -half, rest]))


def signed_zeros(rng: Rng, shape: tuple[int, ...], _dtype: str) -> Array:
    return rng.choice([0.0, -0.0, 0.0, -0.0, 1.0], shape)


def subnormal(rng: Rng, shape: tuple[int, ...], dtype: str) -> Array:
    return rng.integers(-9, 10, shape) * float(np.finfo(dtype).smallest_subnormal)


def one_ulp(rng: Rng, shape: tuple[int, ...], dtype: str) -> Array:
    """Draw from two neighbouring floating-point values."""
    value = np.dtype(dtype).type(rng.uniform(1, 2) * 10 ** rng.uniform(-2, 2))
    return np.where(rng.random(shape) < 0.5, value, np.nextafter(value, np.inf, dtype=dtype))


def constant(rng: Rng, shape: tuple[int, ...], _dtype: str) -> Array:
    return np.full(shape, rng.standard_normal() * 100)


_KINDS: dict[str, Callable[[Rng, tuple[int, ...], str], Array]] = {
    kind.__name__: kind
    for kind in (normal, offset, mixed_scales, outlier, cancelling, signed_zeros, subnormal, one_ulp, constant)
}
KINDS = tuple(_KINDS)


def values(kind: str, rng: Rng, shape: tuple[int, ...], dtype: str) -> Array:
    """Draw values of this kind, independently for each channel."""
    samples, channels, *trailing = shape
    columns = [_KINDS[kind](rng, (samples, 1, *trailing), dtype) for _ in range(channels)]
    return np.concatenate(columns, axis=1).astype(dtype)
