"""Exact sums of rows; see ext/kernels/exact_moments.h and exact_totals.h."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from syncbn.reference._error_free import div_err, two_prod, two_sum
from syncbn.reference._fixed_point import (
    TOO_LARGE,
    center_and_radius,
    count_scale_of,
    from_limbs,
    inverse_scale_of,
    scale_of,
    to_limbs,
)
from syncbn.typing import Float64Array, Int64Array

ULP = 2.0**-52
TINY = 2.0**-480


def moment_ranges(
    x0_nc: Float64Array,
    sum_nc: Float64Array,
    square_nc: Float64Array,
    count_n: Float64Array,
    # out
    range_w: Float64Array,
) -> None:
    """Find the range of x₀ and μᵣ ± σᵣ over the rows r of each channel."""
    range_w[0] = count_n.max(initial=0.0)
    range_2c = range_w[1:].reshape(2, -1)
    range_2c[...] = -np.inf
    rows = count_n > 0
    x0, row_sum, square, count = x0_nc[rows], sum_nc[rows], square_nc[rows], count_n[rows, None]
    with np.errstate(all="ignore"):
        inverse = 1 / count
        shift = row_sum * inverse
        sigma = np.sqrt(np.fmax(square - row_sum * shift, 0.0) * inverse)
        sigma += np.where(square > 0, ULP * np.abs(x0), 0.0)  # so that the range of a row that varies is not empty
        if rows.any():
            range_2c[0] = np.fmax(x0, x0 + shift + sigma).max(axis=0)
            range_2c[1] = np.fmax(-x0, sigma - (x0 + shift)).max(axis=0)
        finite = np.abs(row_sum) + square < np.inf
    range_2c[0, ~finite.all(axis=0)] = np.inf


def moment_sums(
    x0_nc: Float64Array,
    sum_nc: Float64Array,
    square_nc: Float64Array,
    count_n: Float64Array,
    range_w: Float64Array,
    # out
    limbs_4c: Int64Array,
) -> None:
    """Sum n·m and n·m² + M2 over rows, m = (μᵣ − center)/scale, both divided by the count's scale, as limbs."""
    rows = count_n > 0
    x0, row_sum, square, count = x0_nc[rows], sum_nc[rows], square_nc[rows], count_n[rows, None]
    with np.errstate(all="ignore"):
        center, radius = center_and_radius(range_w)
        scale = inverse_scale_of(radius)
        count_scale = count_scale_of(range_w)
        weight = count * (1 / count_scale)
        inverse = 1 / count
        total = row_sum * scale
        shift = total * inverse
        shift_err = div_err(total, 0.0, count, inverse, shift)
        product = total * shift
        m2 = square * scale * scale - product - (two_prod(total, shift, product) + total * shift_err)
        start = (x0 - center) * scale
        start_err = two_sum(x0, -center, x0 - center) * scale
        m = start + shift
        m_err = two_sum(start, shift, m) + start_err + shift_err
        value = weight * m
        to_limbs(value, two_prod(weight, m, value) + weight * m_err, scale, limbs_4c[:2])
        square_m = m * m
        err = weight * (two_prod(m, m, square_m) + 2 * m * m_err)
        value = weight * square_m
        err = err + two_prod(weight, square_m, value)
        part = np.fmax(m2, 0.0) * (1 / count_scale)
        to_limbs(value + part, err + two_sum(value, part, value + part), scale, limbs_4c[2:])


def moments_from_sums(
    limbs_4c: Int64Array,
    range_w: Float64Array,
    count: int,
    eps: float,
    # out
    mean_c: Float64Array,
    var_c: Float64Array,
    invstd_c: Float64Array,
) -> None:
    """Find m̄ = Σn·m/M, μ = center + scale·m̄, var = scale²·(Σ[n·m² + M2]/M − m̄²) and 1/√(var + eps)."""
    sums, squares = from_limbs(limbs_4c[:2]), from_limbs(limbs_4c[2:])
    center_c, radius_c = center_and_radius(range_w)
    scale_c, count_scale = scale_of(radius_c), count_scale_of(range_w)
    for c, (center, radius) in enumerate(zip(center_c, radius_c, strict=True)):
        if not radius < TOO_LARGE:
            mean_c[c] = var_c[c] = invstd_c[c] = np.nan
            continue
        scale = scale_c[c] if radius > 0 else 0.0
        mean = sums[c] / count * Fraction(count_scale)
        scaled = max(float(squares[c] / count * Fraction(count_scale) - mean * mean), 0.0)
        mean_c[c] = float(Fraction(float(center)) + Fraction(float(scale)) * mean)
        var_c[c] = scaled * scale * scale
        if eps > 0 and var_c[c] + eps < np.inf:
            invstd_c[c] = 1 / np.sqrt(var_c[c] + eps)
        elif scaled > 0 and scale >= TINY:
            invstd_c[c] = 1 / np.sqrt(scaled) / scale
        else:
            known = not (0 < abs(center) < TINY or 0 < scale < TINY)
            invstd_c[c] = 0.0 if known else np.nan


def gradient_absmax(
    sum_nc: Float64Array,
    product_nc: Float64Array,
    # out
    absmax_2c: Float64Array,
) -> None:
    """Find the largest magnitude of either per channel; infinite where one is not finite."""
    for values_nc, absmax_c in zip((sum_nc, product_nc), absmax_2c, strict=True):
        absmax_c[...] = np.nan_to_num(np.abs(values_nc), nan=np.inf, posinf=np.inf).max(axis=0, initial=0.0)


def gradient_sums(
    sum_nc: Float64Array,
    product_nc: Float64Array,
    absmax_2c: Float64Array,
    # out
    limbs_4c: Int64Array,
) -> None:
    """Sum either value/scale over n, as limbs."""
    scale_2c = inverse_scale_of(absmax_2c)
    with np.errstate(all="ignore"):
        to_limbs(sum_nc * scale_2c[0], 0.0, scale_2c[0], limbs_4c[:2])
        to_limbs(product_nc * scale_2c[1], 0.0, scale_2c[1], limbs_4c[2:])


def totals_from_sums(
    limbs_g4c: Int64Array,
    absmax_2c: Float64Array,
    # out
    total_g2c: Float64Array,
) -> None:
    """Round the sums of `gradient_sums`, of each of g groups of ranks, to float64."""
    scale_2c = np.where(absmax_2c > 0, scale_of(absmax_2c), 0.0)
    for limbs_4c, total_2c in zip(limbs_g4c, total_g2c, strict=True):
        totals = [[float(total) for total in from_limbs(limbs_4c[k : k + 2])] for k in (0, 2)]
        total_2c[...] = np.where(absmax_2c < TOO_LARGE, totals * scale_2c, np.nan)
