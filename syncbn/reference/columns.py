"""Exact sums over columns; see ext/columns.pxd."""

from __future__ import annotations

import numpy as np

from syncbn.reference._error_free import product_error
from syncbn.reference._fixed_point import centre_and_reach, inverse_unit_of, to_words
from syncbn.reference._memory import MaskArray
from syncbn.reference.exact import gradient_sums, largest_gradients
from syncbn.typing import Float64Array, FloatArray, Int64Array


def moment_ranges_columns(
    x_nc: FloatArray,
    mask_n: MaskArray,
    # out
    range_w: Float64Array,
    threads: int,  # noqa: ARG001
) -> None:
    """`moment_ranges` where a row is one value: max x and max −x."""
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
    words_4c: Int64Array,
    threads: int,  # noqa: ARG001
) -> None:
    """`moment_sums` where a row is one value; m² of float32 needs no rest."""
    x = (x_nc[mask_n.astype(bool)] if mask_n.size else x_nc).astype(np.float64)
    with np.errstate(all="ignore"):
        centre, reach = centre_and_reach(range_w)
        scale = inverse_unit_of(reach)
        m = (x - centre) * scale
        to_words(m, 0.0, scale, words_4c[:2])
        square = m * m
        to_words(square, product_error(m, m, square) if x_nc.dtype == np.float64 else 0.0, scale, words_4c[2:])


def largest_gradients_columns(
    x_nc: FloatArray,
    dy_nc: FloatArray,
    mean_c: Float64Array,
    # out
    largest_2c: Float64Array,
    threads: int,  # noqa: ARG001
) -> None:
    """`largest_gradients` of dy and dy·(x − μ)."""
    with np.errstate(all="ignore"):
        largest_gradients(dy_nc.astype(np.float64), dy_nc * (x_nc - mean_c), largest_2c)


def gradient_sums_columns(
    x_nc: FloatArray,
    dy_nc: FloatArray,
    mean_c: Float64Array,
    largest_2c: Float64Array,
    # out
    words_4c: Int64Array,
    threads: int,  # noqa: ARG001
) -> None:
    """`gradient_sums` of dy and dy·(x − μ)."""
    with np.errstate(all="ignore"):
        gradient_sums(dy_nc.astype(np.float64), dy_nc * (x_nc - mean_c), largest_2c, words_4c)
