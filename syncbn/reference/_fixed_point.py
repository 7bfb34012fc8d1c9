"""Sums without rounding; see ext/fixed_point.h."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from syncbn.typing import Float64Array, Int64Array

WORD_BITS = 48
LEADING, FOLLOWING = 1.5 * 2.0**12, 1.5 * 2.0**-29
GRID = Fraction(1, 2**81)
TOO_LARGE = 2.0**990


@np.errstate(invalid="ignore")  # ∞ − ∞ in a channel that is not finite
def centre_and_reach(range_w: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the centre of each channel's range, and how far it reaches from there.

    A range is the largest count of a row; of each channel the largest value; of each channel the largest negative.
    """
    highest_c, negative_c = range_w[1:].reshape(2, -1)
    return highest_c / 2 - negative_c / 2, highest_c / 2 + negative_c / 2


def count_unit_of(range_w: Float64Array) -> float:
    """Return the least power of two that is at least the largest count and 1."""
    return float(2.0 ** np.ceil(np.log2(max(range_w[0], 1.0))))


def unit_of(reach: Float64Array) -> Float64Array:
    """Return a power of two above twice the reach, at least 2⁻¹⁰⁰⁰."""
    exponent = np.frexp(np.where(reach < TOO_LARGE, reach, 0.0))[1] + 1
    exponent[np.asarray(reach) < 2.0**-1022] = -1000  # subnormal numbers among them
    return np.asarray(np.ldexp(1.0, np.maximum(exponent, -1000)))


def inverse_unit_of(reach: Float64Array) -> Float64Array:
    """Return the factor that scales to at most 1/2; 0 for what is constant or not finite."""
    return np.where((reach > 0) & (reach < TOO_LARGE), 1 / unit_of(reach), 0.0)


def to_words(
    value_nc: Float64Array, rest_nc: Float64Array | float, scale_c: Float64Array, words_2c: Int64Array
) -> None:
    """Σ over n of value + rest, each rounded to whole 2⁻⁸¹: the leading bits, then what follows and the rest."""
    leading = (value_nc + LEADING) - LEADING
    following = ((value_nc - leading) + rest_nc + FOLLOWING) - FOLLOWING
    for c in np.flatnonzero(scale_c):
        high, low = (leading[:, c] / 2.0**-40).astype(np.int64), (following[:, c] / 2.0**-81).astype(np.int64)
        total = (int(high.sum()) << 41) + int(low.sum())
        words_2c[:, c] = total % (1 << WORD_BITS), total >> WORD_BITS
    words_2c[:, scale_c == 0] = 0


def from_words(words_2c: Int64Array) -> list[Fraction]:
    """Return the sums that the words hold."""
    return [(int(low) + (int(high) << WORD_BITS)) * GRID for low, high in words_2c.T]
