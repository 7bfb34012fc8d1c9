"""Sums in float64; see ext/float64.pxd."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from syncbn.typing import Float64Array

TINY = 2.0**-950
NOISE = 2.0**-75


def _leading_26_bits(value: Fraction) -> tuple[float, float]:
    mantissa, exponent = np.frexp(float(value))
    leading = float(np.ldexp(np.round(np.ldexp(mantissa, 26)), int(exponent) - 26))
    return leading, float(value - Fraction(leading))


def moment_sums_float64(
    first_nc: Float64Array,
    deviation_nc: Float64Array,
    square_nc: Float64Array,
    count_n: Float64Array,
    # out
    words_4c: Float64Array,
) -> None:
    """Σx and Σx² over rows, each as its leading 26 bits and the rest, both float64."""
    for c in range(words_4c.shape[1]):
        rows = list(zip(count_n, first_nc[:, c], deviation_nc[:, c], square_nc[:, c], strict=True))
        if not np.isfinite([row[1:] for row in rows]).all():
            words_4c[:, c] = np.nan
            continue
        exact = [tuple(Fraction(float(value)) for value in row) for row in rows]
        total = sum((n * x0 + d for n, x0, d, _ in exact), Fraction(0))
        squares = sum((n * x0 * x0 + 2 * x0 * d + q for n, x0, d, q in exact), Fraction(0))
        words_4c[:, c] = (*_leading_26_bits(total), *_leading_26_bits(squares))


def moments_from_sums_float64(
    words_4c: Float64Array,
    count: float,
    eps: float,
    # out
    mean_c: Float64Array,
    var_c: Float64Array,
    invstd_c: Float64Array,
) -> None:
    """μ = Σx/M and var = (Σx² − (Σx)²/M)/M, 0 where the difference is within rounding of Σx²."""
    for c in range(len(mean_c)):
        if not np.isfinite(words_4c[:, c]).all():
            mean_c[c] = var_c[c] = invstd_c[c] = np.nan
            continue
        words = [Fraction(float(word)) for word in words_4c[:, c]]
        total, squares = words[0] + words[1], words[2] + words[3]
        difference = float(squares - total * total / Fraction(count))
        mean_c[c] = float(total / Fraction(count))
        var_c[c] = 0.0 if difference <= NOISE * float(squares) else difference / count
        if eps == 0 and squares < TINY and (squares > 0 or total != 0):
            invstd_c[c] = np.nan
        else:
            invstd_c[c] = 0.0 if var_c[c] + eps == 0 else 1 / np.sqrt(var_c[c] + eps)
