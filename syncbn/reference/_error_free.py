"""What a rounded operation has lost; see ext/error_free.h."""

from __future__ import annotations

from syncbn.typing import Float64Array


def product_error(a: Float64Array, b: Float64Array, product: Float64Array) -> Float64Array:
    """Return what rounding a·b to ``product`` has lost (Dekker 1971)."""
    spread_a, spread_b = 134217729.0 * a, 134217729.0 * b
    a_high, b_high = spread_a - (spread_a - a), spread_b - (spread_b - b)
    a_low, b_low = a - a_high, b - b_high
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def sum_error(a: Float64Array, b: Float64Array, total: Float64Array) -> Float64Array:
    """Return what rounding a + b to ``total`` has lost (Knuth)."""
    part = total - a
    return (a - (total - part)) + (b - part)


def quotient_rest(
    high: Float64Array, low: float, divisor: Float64Array, inverse: Float64Array, quotient: Float64Array
) -> Float64Array:
    """Return what is left of (high + low)/divisor after ``quotient``; ``inverse`` is that of the divisor."""
    product = quotient * divisor
    return ((high - product) - product_error(quotient, divisor, product) + low) * inverse
