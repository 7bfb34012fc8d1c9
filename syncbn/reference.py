"""The readable twin of every compiled kernel: same name, same signature, same results, in NumPy.

It is the oracle of the tests and the place to read what a kernel computes. ``SYNCBN_KERNELS=reference``
in the environment runs the whole package on it.

Axes are in the names: n samples, c channels, s values of a row, r rows, d features. ncs is channels-first
memory, nsc channels-last. Arrays ending in ``_nc`` of means and factors have 1 or N rows. A mask of shape
(0, 0) selects everything. The comment after a parameter list separates inputs from outputs.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from syncbn.typing import Float64Array, FloatArray, Int64Array

LANES = 16
NO_EXPONENT, NOT_FINITE = -32768, 32767
SUM_BITS, SQUARE_BITS, WORD_BITS = 80, 130, 48
SMALLEST = -450

Int16Array = NDArray[np.int16]
MaskArray = NDArray[np.uint8]


def _lane_sum(values_ncs: Float64Array) -> Float64Array:
    """Sum the last axis: value s goes to lane s mod 16, then lanes j and j + 8, + 4, + 2, + 1."""
    lanes = np.zeros((*values_ncs.shape[:2], LANES))
    for start in range(0, values_ncs.shape[2], LANES):
        block = values_ncs[:, :, start : start + LANES]
        lanes[:, :, : block.shape[2]] += block
    width = LANES
    while width > 1:
        width //= 2
        lanes = lanes[:, :, :width] + lanes[:, :, width:]
    return lanes[:, :, 0]


def _channels_first(a_nsc: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.swapaxes(a_nsc, 1, 2)


def moment_rows_ncs(
    x_ncs: FloatArray,
    mask_ns: MaskArray,
    # out
    first_nc: Float64Array,
    deviation_nc: Float64Array,
    square_nc: Float64Array,
) -> None:
    """First value x₀, Σ(x − x₀) and Σ(x − x₀)² of each row, over the selected values."""
    x = x_ncs.astype(np.float64)
    selected_ns: NDArray[np.bool_] = mask_ns.astype(bool) if mask_ns.size else np.ones((x.shape[0], x.shape[2]), bool)
    start_n = selected_ns.argmax(axis=1)
    any_n1 = np.any(selected_ns, axis=1, keepdims=True)
    first_nc[...] = np.where(any_n1, x[np.arange(len(x)), :, start_n], 0.0)
    d = np.where(selected_ns[:, None, :], x - first_nc[:, :, None], 0.0)
    deviation_nc[...] = _lane_sum(d)
    square_nc[...] = _lane_sum(d * d)


def moment_rows_nsc(
    x_nsc: FloatArray,
    mask_ns: MaskArray,
    # out
    first_nc: Float64Array,
    deviation_nc: Float64Array,
    square_nc: Float64Array,
) -> None:
    """`moment_rows_ncs` of channels-last memory."""
    moment_rows_ncs(_channels_first(x_nsc), mask_ns, first_nc, deviation_nc, square_nc)


def gradient_rows_ncs(
    x_ncs: FloatArray,
    dy_ncs: FloatArray,
    mean_nc: Float64Array,
    # out
    sum_nc: Float64Array,
    product_nc: Float64Array,
) -> None:
    """Σ dy and Σ dy·(x − μ) of each row."""
    dy = dy_ncs.astype(np.float64)
    sum_nc[...] = _lane_sum(dy)
    product_nc[...] = _lane_sum(dy * (x_ncs - mean_nc[:, :, None]))


def gradient_rows_nsc(
    x_nsc: FloatArray,
    dy_nsc: FloatArray,
    mean_nc: Float64Array,
    # out
    sum_nc: Float64Array,
    product_nc: Float64Array,
) -> None:
    """`gradient_rows_ncs` of channels-last memory."""
    gradient_rows_ncs(_channels_first(x_nsc), _channels_first(dy_nsc), mean_nc, sum_nc, product_nc)


def _exponent_of(value: float) -> int:
    if value == 0:
        return NO_EXPONENT
    return int(np.frexp(value)[1]) if np.isfinite(value) else NOT_FINITE


def _cut(value: float | Fraction, unit: int) -> int:
    """value / 2^unit, cut towards zero."""
    return int(Fraction(value) / Fraction(2) ** unit)


def _exact_product(a: float, b: float) -> tuple[float, float]:
    """a·b as float64 + float64 (the second is 0 where the first is exact)."""
    product = a * b
    return product, float(Fraction(a) * Fraction(b) - Fraction(product))


def _to_words(value: int, words: Int64Array) -> None:
    for i in range(len(words) - 1):
        words[i] = value % (1 << WORD_BITS)
        value >>= WORD_BITS
    words[-1] = value


def _from_words(words: Int64Array) -> int:
    return sum(int(word) << (WORD_BITS * i) for i, word in enumerate(words))


def _times_power_of_two(value: float, exponent: int) -> float:
    return float(np.ldexp(value, exponent))


def moment_exponents(
    first_nc: Float64Array,
    deviation_nc: Float64Array,
    square_nc: Float64Array,
    count_n: Float64Array,
    # out
    exponent_c2: Int16Array,
) -> None:
    """Exponents of the largest |Σx| and Σx² (each bounded by its terms) of a row, per channel."""
    sums = count_n[:, None] * np.abs(first_nc) + np.abs(deviation_nc)
    squares = count_n[:, None] * first_nc * first_nc + square_nc
    for c in range(len(exponent_c2)):
        exponent_c2[c, 0] = max((_exponent_of(v) for v in sums[:, c]), default=NO_EXPONENT)
        exponent_c2[c, 1] = max((_exponent_of(v) for v in squares[:, c]), default=NO_EXPONENT)


def moment_sums(
    first_nc: Float64Array,
    deviation_nc: Float64Array,
    square_nc: Float64Array,
    count_n: Float64Array,
    exponent_c2: Int16Array,
    # out
    words_c5: Int64Array,
) -> None:
    """Σx and Σx² over rows, cut to the grids that the exponents give, as integers.

    Σx = n·x₀ + Σ(x − x₀) and Σx² = n·x₀² + 2x₀·Σ(x − x₀) + Σ(x − x₀)², each product split into two
    float64 that hold it exactly.
    """
    for c in range(len(words_c5)):
        total = squares = 0
        if NOT_FINITE not in exponent_c2[c]:
            sum_unit, square_unit = int(exponent_c2[c, 0]) - SUM_BITS, int(exponent_c2[c, 1]) - SQUARE_BITS
            rows = zip(count_n, first_nc[:, c], deviation_nc[:, c], square_nc[:, c], strict=True)
            for count, x0, deviation, square in rows:
                product, rest = _exact_product(count, x0)
                total += sum(_cut(term, sum_unit) for term in (product, rest, deviation))
                terms = (
                    *_exact_product(product, x0),
                    *_exact_product(rest, x0),
                    *_exact_product(2 * x0, deviation),
                    square,
                )
                squares += sum(_cut(term, square_unit) for term in terms)
        _to_words(total, words_c5[c, :2])
        _to_words(squares, words_c5[c, 2:])


def moments_from_sums(
    words_c5: Int64Array,
    exponent_c2: Int16Array,
    count: int,
    eps: float,
    # out
    mean_c: Float64Array,
    var_c: Float64Array,
    invstd_c: Float64Array,
) -> None:
    """μ = Σx/M and var = (M·Σx² − (Σx)²)/M², the difference without rounding; 1/√(var + eps)."""
    for c in range(len(mean_c)):
        if NOT_FINITE in exponent_c2[c]:
            mean_c[c] = var_c[c] = invstd_c[c] = np.nan
            continue
        sum_unit, square_unit = int(exponent_c2[c, 0]) - SUM_BITS, int(exponent_c2[c, 1]) - SQUARE_BITS
        total, squares = _from_words(words_c5[c, :2]), _from_words(words_c5[c, 2:])
        mean_c[c] = _times_power_of_two(float(Fraction(total, count)), sum_unit)
        shift = square_unit - 2 * sum_unit
        if shift >= 0:
            difference, unit = count * squares - (total * total >> shift), square_unit
        else:
            difference, unit = (count * squares >> -shift) - total * total, 2 * sum_unit
        var_c[c] = _times_power_of_two(float(max(difference, 0)) / count / count, unit)
        if var_c[c] + eps > 0:
            invstd_c[c] = 1 / np.sqrt(var_c[c] + eps)
        else:
            underflow = NO_EXPONENT < exponent_c2[c, 0] < SMALLEST
            invstd_c[c] = np.nan if underflow else 0.0


def value_exponents(
    values_nc: Float64Array,
    # out
    exponent_c: Int16Array,
) -> None:
    """Exponent of the largest |value| per channel."""
    for c in range(len(exponent_c)):
        exponent_c[c] = max((_exponent_of(v) for v in values_nc[:, c]), default=NO_EXPONENT)


def value_sums(
    values_nc: Float64Array,
    exponent_c: Int16Array,
    # out
    words_c2: Int64Array,
) -> None:
    """Σ over n, cut to the grid that the exponent gives, as integers."""
    for c in range(len(words_c2)):
        unit = int(exponent_c[c]) - SUM_BITS
        finite = exponent_c[c] != NOT_FINITE
        _to_words(sum(_cut(v, unit) for v in values_nc[:, c]) if finite else 0, words_c2[c])


def totals_from_sums(
    words_c2: Int64Array,
    exponent_c: Int16Array,
    # out
    total_c: Float64Array,
) -> None:
    """Round the sums of `value_sums` to float64."""
    for c in range(len(total_c)):
        total = float(_from_words(words_c2[c]))
        finite = exponent_c[c] != NOT_FINITE
        total_c[c] = _times_power_of_two(total, int(exponent_c[c]) - SUM_BITS) if finite else np.nan


def normalize_ncs(
    x_ncs: FloatArray,
    mean_nc: Float64Array,
    scale_nc: Float64Array,
    bias_c: Float64Array,
    # out
    y_ncs: FloatArray,
) -> None:
    """y = (x − μ)·scale + bias."""
    y_ncs[...] = (x_ncs - mean_nc[:, :, None]) * scale_nc[:, :, None] + bias_c[:, None]


def normalize_nsc(
    x_nsc: FloatArray,
    mean_nc: Float64Array,
    scale_nc: Float64Array,
    bias_c: Float64Array,
    # out
    y_nsc: FloatArray,
) -> None:
    """`normalize_ncs` of channels-last memory."""
    normalize_ncs(_channels_first(x_nsc), mean_nc, scale_nc, bias_c, _channels_first(y_nsc))


def normalize_rows(
    x_rd: FloatArray,
    mean_r: Float64Array,
    scale_r: Float64Array,
    weight_d: Float64Array,
    bias_d: Float64Array,
    # out
    y_rd: FloatArray,
) -> None:
    """y = (x − μ)·scale·weight + bias with a mean and a scale per row, a weight and a bias per feature."""
    y_rd[...] = (x_rd - mean_r[:, None]) * scale_r[:, None] * weight_d + bias_d


def input_gradient_ncs(
    x_ncs: FloatArray,
    dy_ncs: FloatArray,
    mask_ns: MaskArray,
    mean_nc: Float64Array,
    direct_nc: Float64Array,
    shift_nc: Float64Array,
    slope_nc: Float64Array,
    # out
    dx_ncs: FloatArray,
) -> None:
    """dx = direct·dy − mask·[shift + slope·(x − μ)]."""
    through = shift_nc[:, :, None] + slope_nc[:, :, None] * (x_ncs - mean_nc[:, :, None])
    if mask_ns.size:
        through = np.where(mask_ns[:, None, :], through, 0.0)
    dx_ncs[...] = direct_nc[:, :, None] * dy_ncs - through


def input_gradient_nsc(
    x_nsc: FloatArray,
    dy_nsc: FloatArray,
    mask_ns: MaskArray,
    mean_nc: Float64Array,
    direct_nc: Float64Array,
    shift_nc: Float64Array,
    slope_nc: Float64Array,
    # out
    dx_nsc: FloatArray,
) -> None:
    """`input_gradient_ncs` of channels-last memory."""
    x, dy, dx = (_channels_first(a) for a in (x_nsc, dy_nsc, dx_nsc))
    input_gradient_ncs(x, dy, mask_ns, mean_nc, direct_nc, shift_nc, slope_nc, dx)


def gradient_sums_rows(
    x_rd: FloatArray,
    dy_rd: FloatArray,
    mean_r: Float64Array,
    scale_r: Float64Array,
    weight_d: Float64Array,
    # out
    sum_r: Float64Array,
    product_r: Float64Array,
    dweight_d: Float64Array,
    dbias_d: Float64Array,
) -> None:
    """Σ dy·weight and Σ dy·weight·(x − μ) of each row; Σ dy·(x − μ)·scale and Σ dy of each feature."""
    dy = dy_rd.astype(np.float64)
    deviation = x_rd - mean_r[:, None]
    sum_r[...] = (dy * weight_d).sum(axis=1)
    product_r[...] = (dy * weight_d * deviation).sum(axis=1)
    dweight_d[...] = (dy * deviation * scale_r[:, None]).sum(axis=0)
    dbias_d[...] = dy.sum(axis=0)


def input_gradient_rows(
    x_rd: FloatArray,
    dy_rd: FloatArray,
    mean_r: Float64Array,
    scale_r: Float64Array,
    weight_d: Float64Array,
    shift_r: Float64Array,
    slope_r: Float64Array,
    # out
    dx_rd: FloatArray,
) -> None:
    """dx = scale·weight·dy − [shift + slope·(x − μ)]."""
    through = shift_r[:, None] + slope_r[:, None] * (x_rd - mean_r[:, None])
    dx_rd[...] = scale_r[:, None] * weight_d * dy_rd - through


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
    words_c4: Float64Array,
) -> None:
    """Σx and Σx² over rows, each as its leading 26 bits and the rest, both float64."""
    for c in range(len(words_c4)):
        rows = list(zip(count_n, first_nc[:, c], deviation_nc[:, c], square_nc[:, c], strict=True))
        if not np.isfinite([row[1:] for row in rows]).all():
            words_c4[c] = np.nan
            continue
        exact = [tuple(Fraction(float(value)) for value in row) for row in rows]
        total = sum((n * x0 + d for n, x0, d, _ in exact), Fraction(0))
        squares = sum((n * x0 * x0 + 2 * x0 * d + q for n, x0, d, q in exact), Fraction(0))
        words_c4[c] = (*_leading_26_bits(total), *_leading_26_bits(squares))


def moments_from_sums_float64(
    words_c4: Float64Array,
    count: float,
    eps: float,
    # out
    mean_c: Float64Array,
    var_c: Float64Array,
    invstd_c: Float64Array,
) -> None:
    """μ = Σx/M and var = (Σx² − (Σx)²/M)/M, 0 where the difference is within rounding of Σx²."""
    for c in range(len(mean_c)):
        if not np.isfinite(words_c4[c]).all():
            mean_c[c] = var_c[c] = invstd_c[c] = np.nan
            continue
        words = [Fraction(float(word)) for word in words_c4[c]]
        total, squares = words[0] + words[1], words[2] + words[3]
        difference = float(squares - total * total / Fraction(count))
        mean_c[c] = float(total / Fraction(count))
        var_c[c] = 0.0 if difference <= NOISE * float(squares) else difference / count
        invstd_c[c] = 0.0 if var_c[c] + eps == 0 else 1 / np.sqrt(var_c[c] + eps)
