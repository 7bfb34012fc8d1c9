"""Error-free transformations; see ext/kernels/error_free.h."""

from __future__ import annotations

from syncbn.typing import Float64Array


def two_prod(a: Float64Array, b: Float64Array, product: Float64Array) -> Float64Array:
    """Return the rounding error of ``product`` = a·b (Dekker 1971)."""
    spread_a, spread_b = 134217729.0 * a, 134217729.0 * b
    a_hi, b_hi = spread_a - (spread_a - a), spread_b - (spread_b - b)
    a_lo, b_lo = a - a_hi, b - b_hi
    return ((a_hi * b_hi - product) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo


def two_sum(a: Float64Array, b: Float64Array, total: Float64Array) -> Float64Array:
    """Return the rounding error of ``total`` = a + b (Knuth)."""
    part = total - a
    return (a - (total - part)) + (b - part)


def div_err(
    hi: Float64Array, lo: float, divisor: Float64Array, inverse: Float64Array, quotient: Float64Array
) -> Float64Array:
    """Return what (hi + lo)/divisor exceeds ``quotient`` by; ``inverse`` is 1/divisor."""
    product = quotient * divisor
    return ((hi - product) - two_prod(quotient, divisor, product) + lo) * inverse
