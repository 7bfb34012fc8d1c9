"""Sums of row values without rounding; see ext/exact.pxd."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from syncbn.reference._error_free import product_error, quotient_rest, sum_error
from syncbn.reference._fixed_point import (
    TOO_LARGE,
    centre_and_reach,
    count_unit_of,
    from_words,
    inverse_unit_of,
    to_words,
    unit_of,
)
from syncbn.typing import Float64Array, Int64Array

ULP = 2.0**-52
TINY = 2.0**-480


def moment_ranges(
    first_nc: Float64Array,
    deviation_nc: Float64Array,
    square_nc: Float64Array,
    count_n: Float64Array,
    # out
    range_w: Float64Array,
) -> None:
    """Range of x₀ and μᵣ ± σᵣ over the rows r of each channel."""
    range_w[0] = count_n.max(initial=0.0)
    range_2c = range_w[1:].reshape(2, -1)
    range_2c[...] = -np.inf
    rows = count_n > 0
    first, deviation, square, count = first_nc[rows], deviation_nc[rows], square_nc[rows], count_n[rows, None]
    with np.errstate(all="ignore"):
        inverse = 1 / count
        shift = deviation * inverse
        spread = np.sqrt(np.fmax(square - deviation * shift, 0.0) * inverse)
        spread += np.where(square > 0, ULP * np.abs(first), 0.0)  # so that the range of a row that varies is not empty
        if rows.any():
            range_2c[0] = np.fmax(first, first + shift + spread).max(axis=0)
            range_2c[1] = np.fmax(-first, spread - (first + shift)).max(axis=0)
        finite = np.abs(deviation) + square < np.inf
    range_2c[0, ~finite.all(axis=0)] = np.inf


def moment_sums(
    first_nc: Float64Array,
    deviation_nc: Float64Array,
    square_nc: Float64Array,
    count_n: Float64Array,
    range_w: Float64Array,
    # out
    words_4c: Int64Array,
) -> None:
    """Σn·m and Σ[n·m² + M2] over rows, m = (μᵣ − centre)/unit, all over the count's unit, as words."""
    rows = count_n > 0
    first, deviation, square, count = first_nc[rows], deviation_nc[rows], square_nc[rows], count_n[rows, None]
    with np.errstate(all="ignore"):
        centre, reach = centre_and_reach(range_w)
        scale = inverse_unit_of(reach)
        count_unit = count_unit_of(range_w)
        weight = count * (1 / count_unit)
        inverse = 1 / count
        total = deviation * scale
        shift = total * inverse
        shift_rest = quotient_rest(total, 0.0, count, inverse, shift)
        product = total * shift
        m2 = square * scale * scale - product - (product_error(total, shift, product) + total * shift_rest)
        offset = (first - centre) * scale
        offset_rest = sum_error(first, -centre, first - centre) * scale
        m = offset + shift
        m_rest = sum_error(offset, shift, m) + offset_rest + shift_rest
        value = weight * m
        to_words(value, product_error(weight, m, value) + weight * m_rest, scale, words_4c[:2])
        of_mean = m * m
        rest = weight * (product_error(m, m, of_mean) + 2 * m * m_rest)
        value = weight * of_mean
        rest = rest + product_error(weight, of_mean, value)
        part = np.fmax(m2, 0.0) * (1 / count_unit)
        to_words(value + part, rest + sum_error(value, part, value + part), scale, words_4c[2:])


def moments_from_sums(
    words_4c: Int64Array,
    range_w: Float64Array,
    count: int,
    eps: float,
    # out
    mean_c: Float64Array,
    var_c: Float64Array,
    invstd_c: Float64Array,
) -> None:
    """m̄ = Σn·m/M, μ = centre + unit·m̄ and var = unit²·(Σ[n·m² + M2]/M − m̄²); 1/√(var + eps)."""
    sums, squares = from_words(words_4c[:2]), from_words(words_4c[2:])
    centre_c, reach_c = centre_and_reach(range_w)
    unit_c, count_unit = unit_of(reach_c), count_unit_of(range_w)
    for c, (centre, reach) in enumerate(zip(centre_c, reach_c, strict=True)):
        if not reach < TOO_LARGE:
            mean_c[c] = var_c[c] = invstd_c[c] = np.nan
            continue
        unit = unit_c[c] if reach > 0 else 0.0
        mean = sums[c] / count * Fraction(count_unit)
        scaled = max(float(squares[c] / count * Fraction(count_unit) - mean * mean), 0.0)
        mean_c[c] = centre + unit * float(mean)
        var_c[c] = scaled * unit * unit
        if eps > 0 and var_c[c] + eps < np.inf:
            invstd_c[c] = 1 / np.sqrt(var_c[c] + eps)
        elif scaled > 0 and unit >= TINY:
            invstd_c[c] = 1 / np.sqrt(scaled) / unit
        else:
            known = not (0 < abs(centre) < TINY or 0 < unit < TINY)
            invstd_c[c] = 0.0 if known else np.nan


def largest_gradients(
    sum_nc: Float64Array,
    product_nc: Float64Array,
    # out
    largest_2c: Float64Array,
) -> None:
    """Largest magnitude of either per channel; infinite where one is not finite."""
    for values_nc, largest_c in zip((sum_nc, product_nc), largest_2c, strict=True):
        largest_c[...] = np.nan_to_num(np.abs(values_nc), nan=np.inf, posinf=np.inf).max(axis=0, initial=0.0)


def gradient_sums(
    sum_nc: Float64Array,
    product_nc: Float64Array,
    largest_2c: Float64Array,
    # out
    words_4c: Int64Array,
) -> None:
    """Sum either value/unit over n, as words."""
    scale_2c = inverse_unit_of(largest_2c)
    with np.errstate(all="ignore"):
        to_words(sum_nc * scale_2c[0], 0.0, scale_2c[0], words_4c[:2])
        to_words(product_nc * scale_2c[1], 0.0, scale_2c[1], words_4c[2:])


def totals_from_sums(
    words_g4c: Int64Array,
    largest_2c: Float64Array,
    # out
    total_g2c: Float64Array,
) -> None:
    """Round the sums of `gradient_sums`, of each of g groups of ranks, to float64."""
    unit_2c = np.where(largest_2c > 0, unit_of(largest_2c), 0.0)
    for words_4c, total_2c in zip(words_g4c, total_g2c, strict=True):
        totals = [[float(total) for total in from_words(words_4c[k : k + 2])] for k in (0, 2)]
        total_2c[...] = np.where(largest_2c < TOO_LARGE, totals * unit_2c, np.nan)
