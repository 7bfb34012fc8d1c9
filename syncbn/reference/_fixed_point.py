"""Fixed-point accumulators: sums without rounding; see ext/kernels/fixed_point.h and range.h."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from syncbn.typing import Float64Array, Int64Array

LIMB_BITS = 48
HI_MAGIC, LO_MAGIC, INT_MAGIC = 1.5 * 2.0**12, 1.5 * 2.0**-29, 1.5 * 2.0
GRID = Fraction(1, 2**81)
TOO_LARGE = 2.0**990


@np.errstate(invalid="ignore")  # ∞ − ∞ in a channel that is not finite
def center_and_radius(range_w: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the center of each channel's range, and its radius.

    A range is the largest count of a row; of each channel the largest value; of each channel the largest negative.
    """
    max_c, negative_max_c = range_w[1:].reshape(2, -1)
    center_c = np.where(max_c == -negative_max_c, max_c, max_c / 2 - negative_max_c / 2)
    return center_c, max_c / 2 + negative_max_c / 2


def count_scale_of(range_w: Float64Array) -> float:
    """Return the least power of two that is at least the largest count and 1."""
    return float(2.0 ** np.ceil(np.log2(max(range_w[0], 1.0))))


def scale_of(radius: Float64Array) -> Float64Array:
    """Return a power of two above twice the radius, at least 2⁻¹⁰⁰⁰."""
    exponent = np.frexp(np.where(radius < TOO_LARGE, radius, 0.0))[1] + 1
    exponent[np.asarray(radius) < 2.0**-1022] = -1000  # subnormal numbers among them
    return np.asarray(np.ldexp(1.0, np.maximum(exponent, -1000)))


def inverse_scale_of(radius: Float64Array) -> Float64Array:
    """Return the factor that scales a channel to at most 1/2; 0 for a channel that is constant or not finite."""
    return np.where((radius > 0) & (radius < TOO_LARGE), 1 / scale_of(radius), 0.0)


def to_limbs(value_nc: Float64Array, err_nc: Float64Array | float, scale_c: Float64Array, limbs_2c: Int64Array) -> None:
    """Sum value + err over n, each rounded to a multiple of 2⁻⁸¹: upper bits, then lower bits with the error."""
    hi = (value_nc + HI_MAGIC) - HI_MAGIC
    lo = ((value_nc - hi) + err_nc + LO_MAGIC) - LO_MAGIC
    for c in np.flatnonzero(scale_c):
        upper, lower = (hi[:, c] / 2.0**-40).astype(np.int64), (lo[:, c] / 2.0**-81).astype(np.int64)
        total = (int(upper.sum()) << 41) + int(lower.sum())
        limbs_2c[:, c] = total % (1 << LIMB_BITS), total >> LIMB_BITS
    limbs_2c[:, scale_c == 0] = 0


def to_column_limbs(
    value_nc: Float64Array,
    err_nc: Float64Array | float,
    dtype: np.dtype[Any],
    scale_c: Float64Array,
    limbs_2c: Int64Array,
) -> None:
    """Sum value + err over n, rounded to a multiple of 2⁻⁵¹, or of 2⁻⁸¹ in two parts where dtype is float64."""
    hi = (value_nc + INT_MAGIC) - INT_MAGIC
    lo = ((value_nc - hi) + err_nc + LO_MAGIC) - LO_MAGIC if dtype == np.float64 else np.zeros_like(hi)
    for c in np.flatnonzero(scale_c):
        upper, lower = (hi[:, c] / 2.0**-51).astype(np.int64), (lo[:, c] / 2.0**-81).astype(np.int64)
        total = (sum(map(int, upper)) << 30) + int(lower.sum())
        limbs_2c[:, c] = total % (1 << LIMB_BITS), total >> LIMB_BITS
    limbs_2c[:, scale_c == 0] = 0


def from_limbs(limbs_2c: Int64Array) -> list[Fraction]:
    """Return the sums that the limbs hold."""
    return [(int(lower) + (int(upper) << LIMB_BITS)) * GRID for lower, upper in limbs_2c.T]
