"""Exact sums over columns; see ext/kernels/column_sums.h."""

from __future__ import annotations

import numpy as np

from syncbn.reference._error_free import two_prod
from syncbn.reference._exact import gradient_absmax
from syncbn.reference._fixed_point import center_and_radius, inverse_scale_of, to_column_limbs
from syncbn.reference._memory import MaskArray
from syncbn.typing import Float64Array, FloatArray, Int64Array


def moment_ranges_columns(
    x_nc: FloatArray,
    mask_n: MaskArray,
    # out
    range_w: Float64Array,
    threads: int,  # noqa: ARG001
) -> None:
    """Find the range where a row is one value: max x and max −x."""
    range_w[0] = 1
    range_2c = range_w[1:].reshape(2, -1)
    x = x_nc[mask_n.astype(bool)] if mask_n.size else x_nc
    range_2c[0], range_2c[1] = x.max(axis=0, initial=-np.inf), (-x).max(axis=0, initial=-np.inf)
    range_2c[0, ~np.isfinite(x).all(axis=0)] = np.inf


def moment_sums_columns(
    x_nc: FloatArray,
    mask_n: MaskArray,
    range_w: Float64Array,
    # out
    limbs_4c: Int64Array,
    threads: int,  # noqa: ARG001
) -> None:
    """Sum moments where a row is one value."""
    x = (x_nc[mask_n.astype(bool)] if mask_n.size else x_nc).astype(np.float64)
    with np.errstate(all="ignore"):
        center, radius = center_and_radius(range_w)
        scale = inverse_scale_of(radius)
        m = (x - center) * scale
        to_column_limbs(m, 0.0, x_nc.dtype, scale, limbs_4c[:2])
        square = m * m
        to_column_limbs(square, two_prod(m, m, square), x_nc.dtype, scale, limbs_4c[2:])


def gradient_absmax_columns(
    x_nc: FloatArray,
    dy_nc: FloatArray,
    mean_c: Float64Array,
    # out
    absmax_2c: Float64Array,
    threads: int,  # noqa: ARG001
) -> None:
    """Find the largest |dy| and a bound of |dy·(x − μ)|, which takes μ rounded to x's dtype, and what that loses."""
    with np.errstate(all="ignore"):
        center_c = mean_c.astype(x_nc.dtype)
        error_c = np.abs(mean_c - center_c)
        lost_c = error_c.astype(x_nc.dtype)
        lost_c[(lost_c == 0) & (error_c > 0)] = np.finfo(x_nc.dtype).smallest_subnormal
        bound = np.abs(dy_nc) * (np.abs(x_nc - center_c) + lost_c)
        held = (bound >= 2.0**-100) & (bound < np.inf) if x_nc.dtype == np.float32 else True
        gradient_absmax(dy_nc.astype(np.float64), np.where(held, bound, dy_nc * (x_nc - mean_c)), absmax_2c)


def gradient_sums_columns(
    x_nc: FloatArray,
    dy_nc: FloatArray,
    mean_c: Float64Array,
    absmax_2c: Float64Array,
    # out
    limbs_4c: Int64Array,
    threads: int,  # noqa: ARG001
) -> None:
    """Sum dy and dy·(x − μ)."""
    with np.errstate(all="ignore"):
        scale_2c = inverse_scale_of(absmax_2c)
        to_column_limbs(dy_nc * scale_2c[0], 0.0, x_nc.dtype, scale_2c[0], limbs_4c[:2])
        to_column_limbs(dy_nc * (x_nc - mean_c) * scale_2c[1], 0.0, x_nc.dtype, scale_2c[1], limbs_4c[2:])
