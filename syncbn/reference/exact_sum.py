"""Exact sums of any numbers, correctly rounded, in Python's integers; see ext/kernels/exact_sum.h."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from syncbn.reference._fixed_point import LIMB_BITS
from syncbn.typing import Float64Array, FloatArray, Int64Array

_NOT_FINITE = ((np.isnan, 1), (np.isposinf, 1 << 20), (np.isneginf, 1 << 40))


def exact_sum_range(
    values_rn: FloatArray,
    # out
    range_2: Float64Array,
) -> None:
    """Find the largest exponent e of values m·2ᵉ, |m| < 2⁵³, and the negative of the smallest."""
    counted = values_rn[np.isfinite(values_rn) & (values_rn != 0)].astype(np.float64)
    exponents = np.maximum(np.frexp(counted)[1] - 53, -1074)
    range_2[...] = (exponents.max(), -exponents.min()) if exponents.size else -np.inf


def exact_sum_limbs(
    values_rn: FloatArray,
    lowest: int,
    # out
    limbs_rl: Int64Array,
) -> None:
    """Sum each row in units of 2^lowest; count what is not finite in the last limb."""
    for values, limbs in zip(values_rn, limbs_rl, strict=True):
        total = sum(map(Fraction, values[np.isfinite(values)].tolist()))
        integer = int(total / Fraction(2) ** lowest)
        for k in range(len(limbs) - 2):
            integer, limbs[k] = divmod(integer, 1 << LIMB_BITS)
        limbs[-2] = integer
        limbs[-1] = sum(unit for found, unit in _NOT_FINITE if found(values).any())


def exact_sum_round(
    limbs_rl: Int64Array,
    lowest: int,
    precision: int,
    # out
    totals_r: Float64Array,
) -> None:
    """Round each row's sum to ``precision`` bits: the nearest number, ties to even."""
    for row, limbs in enumerate(limbs_rl.tolist()):
        *integers, not_finite = limbs
        if not_finite:
            found = (not_finite % (1 << 20), not_finite >> 20 & 0xFFFFF, not_finite >> 40)
            totals_r[row] = sum(
                value for value, count in zip((math.nan, math.inf, -math.inf), found, strict=True) if count
            )
            continue
        integer = sum(limb << (LIMB_BITS * k) for k, limb in enumerate(integers))
        dropped = max(abs(integer).bit_length() - precision, 0)
        rounded = round(Fraction(integer, 1 << dropped))  # ties to even
        try:
            totals_r[row] = math.ldexp(rounded, lowest + dropped)
        except OverflowError:
            totals_r[row] = math.copysign(math.inf, integer)
