"""Sums in float64; see ext/kernels/float64_sums.h."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from syncbn.typing import Float64Array

TINY = 2.0**-950
NOISE = 2.0**-75


def _upper_26_bits(value: Fraction) -> tuple[float, float]:
    mantissa, exponent = np.frexp(float(value))
    upper = float(np.ldexp(np.round(np.ldexp(mantissa, 26)), int(exponent) - 26))
    return upper, float(value - Fraction(upper))


def moment_sums_float64(
    x0_nc: Float64Array,
    sum_nc: Float64Array,
    square_nc: Float64Array,
    count_n: Float64Array,
    # out
    sums_4c: Float64Array,
) -> None:
    """Sum x and x² over rows, each as its upper 26 bits and the remainder, both float64."""
    for c in range(sums_4c.shape[1]):
        rows = list(zip(count_n, x0_nc[:, c], sum_nc[:, c], square_nc[:, c], strict=True))
        if not np.isfinite([row[1:] for row in rows]).all():
            sums_4c[:, c] = np.nan
            continue
        exact = [tuple(Fraction(float(value)) for value in row) for row in rows]
        total = sum((n * x0 + d for n, x0, d, _ in exact), Fraction(0))
        squares = sum((n * x0 * x0 + 2 * x0 * d + q for n, x0, d, q in exact), Fraction(0))
        sums_4c[:, c] = (*_upper_26_bits(total), *_upper_26_bits(squares))


def moments_from_sums_float64(
    sums_4c: Float64Array,
    count: float,
    eps: float,
    # out
    mean_c: Float64Array,
    var_c: Float64Array,
    invstd_c: Float64Array,
) -> None:
    """Find μ = Σx/M and var = (Σx² − (Σx)²/M)/M, 0 where the difference is within rounding of Σx²."""
    for c in range(len(mean_c)):
        if not np.isfinite(sums_4c[:, c]).all():
            mean_c[c] = var_c[c] = invstd_c[c] = np.nan
            continue
        parts = [Fraction(float(part)) for part in sums_4c[:, c]]
        total, squares = parts[0] + parts[1], parts[2] + parts[3]
        difference = float(squares - total * total / Fraction(count))
        mean_c[c] = float(total / Fraction(count))
        var_c[c] = 0.0 if difference <= NOISE * float(squares) else difference / count
        if eps == 0 and squares < TINY and (squares > 0 or total != 0):
            invstd_c[c] = np.nan
        else:
            invstd_c[c] = 0.0 if var_c[c] + eps == 0 else 1 / np.sqrt(var_c[c] + eps)
