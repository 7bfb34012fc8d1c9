"""The exact accumulators against Python integers and fractions, on many ranks that are added by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbn._dispatch.kernels import kernels
from syncbn._dispatch.layout import NO_MASK
from syncbn._dispatch.moments import ColumnMoments, RowMoments, Rows

finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e150, max_value=1e150)
RANKS = 32767
"""As many as the words have room for."""
BELOW_ONE = np.nextafter(1.0, 0.0)  # all bits of the mantissa


def add(words, own, times=1):
    """Add a rank's words ``times`` over, as MPI_SUM does, but seeing when int64 is too small."""
    total = [int(a) + int(b) * times for a, b in zip(words.ravel(), own.ravel(), strict=True)]
    assert all(-(2**63) <= word < 2**63 for word in total), "int64 overflows"
    return np.array(total, np.int64).reshape(words.shape)


def sum_on_ranks(parts, times=1):
    """Sum one channel's values, a list per rank, every rank there ``times`` over."""
    columns = [np.array(part, float).reshape(-1, 1) for part in parts]
    magnitudes = [np.empty((2, 1)) for _ in columns]
    for column, magnitude in zip(columns, magnitudes, strict=True):
        kernels.largest_gradients(column, -column, magnitude)
    largest = np.maximum.reduce(magnitudes)
    words = np.zeros((4, 1), np.int64)
    for column in columns:
        own = np.empty((4, 1), np.int64)
        kernels.gradient_sums(column, -column, largest, own)
        words = add(words, own, times)
    total = np.empty((1, 2, 1))
    kernels.totals_from_sums(words[None], largest, total)
    total = total[0]
    np.testing.assert_array_equal(total[0], -total[1])
    return total[0, 0], float(largest[0, 0])


def row_terms(part):
    x = np.ascontiguousarray(part, float)[:, None, :]
    rows = Rows(*(np.empty((len(x), 1)) for _ in range(3)), np.full(len(x), float(x.shape[2])))
    kernels.moment_rows_ncs(x, NO_MASK, *rows[:3], 1)
    return RowMoments(rows)


def column_terms(part):
    return ColumnMoments(np.ascontiguousarray(part, float).reshape(-1, 1), NO_MASK.ravel())


def moments_on_ranks(parts, times=1, terms_of=row_terms):
    """Return mean and var of one channel's rows: an array (rows, S) per rank, every rank there ``times`` over."""
    ranks = [terms_of(part) for part in parts]
    ranges = [np.empty(3) for _ in ranks]
    for terms, own in zip(ranks, ranges, strict=True):
        terms.ranges(own)
    largest = np.maximum.reduce(ranges)
    words = np.zeros((4, 1), np.int64)
    for terms in ranks:
        own = np.empty((4, 1), np.int64)
        terms.exact_sums(largest, own)
        words = add(words, own, times)
    mean, var, invstd = np.empty(1), np.empty(1), np.empty(1)
    count = sum(terms.count for terms in ranks) * times
    kernels.moments_from_sums(words, largest, count, 1e-5, mean, var, invstd)
    return mean[0], var[0]


def exact_moments(values):
    exact = [Fraction(float(value)) for value in values]
    mean = sum(exact) / len(exact)
    return mean, sum((value - mean) ** 2 for value in exact) / len(exact)


def parts_of(data, values):
    """Split a random order of the values over ranks, some of them empty."""
    shuffled = data.draw(st.permutations(values))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=40)))
    return [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(values)], strict=True)]


@given(st.lists(finite, min_size=1, max_size=30), st.data())
def test_sums_are_the_same_for_every_split_and_order_and_true_to_the_grid(values, data):
    total, largest = sum_on_ranks([values])
    again, _ = sum_on_ranks(parts_of(data, values))
    assert total == again or (np.isnan(total) and np.isnan(again))
    exact = sum(map(Fraction, values))
    grid = max(Fraction(largest), Fraction(2) ** -1001) * 2**-79
    assert abs(Fraction(float(total)) - exact) <= len(values) * grid + abs(exact) * Fraction(2) ** -52


@given(st.integers(0, 6), st.data())
def test_moments_are_the_same_for_every_split_and_order(size, data):
    terms_of, size = (row_terms, size) if size else (column_terms, 1)
    values = st.floats(allow_nan=False, allow_infinity=False, width=32)
    rows = data.draw(st.lists(st.lists(values, min_size=size, max_size=size), min_size=2, max_size=20))
    parts = [np.array(part, float).reshape(-1, size) for part in parts_of(data, rows)]
    assert moments_on_ranks(parts, terms_of=terms_of) == moments_on_ranks([np.array(rows)], terms_of=terms_of)


def test_plain_float64_sums_do_differ_by_order():
    values = np.array([1.0, 1e16, -1e16])
    assert (np.add.accumulate(values)[-1], np.add.accumulate(values[::-1])[-1]) == (0.0, 1.0)
    assert sum_on_ranks([values])[0] == sum_on_ranks([values[::-1]])[0] == 1.0


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_of_2_to_the_28_rows_on_32767_ranks_fit_int64(sign):
    values = np.full(8192, sign * BELOW_ONE)
    total, _ = sum_on_ranks([values], RANKS)
    assert total == float(Fraction(values[0]) * values.size * RANKS)


@pytest.mark.parametrize(
    "row",
    [
        [BELOW_ONE],
        [-BELOW_ONE],
        [-BELOW_ONE, BELOW_ONE, BELOW_ONE],  # the shift by the first value makes terms that cancel
        [0.0, BELOW_ONE, -BELOW_ONE],
        [1e-30, 1.0, 1.0],
    ],
)
def test_the_largest_moments_of_2_to_the_28_rows_on_32767_ranks_fit_int64(row):
    rows = np.tile(row, (8192, 1))
    mean, var = moments_on_ranks([rows], RANKS)
    exact_mean, exact_var = exact_moments(row)
    assert mean == pytest.approx(float(exact_mean), rel=4e-16, abs=1e-16)
    assert var == pytest.approx(float(exact_var), rel=4e-16, abs=0)


def test_one_rank_more_would_not_always_fit():
    """The control: the bound is seen, with words that have all their bits."""
    full = np.full((2, 1), 2**48 - 1)
    add(np.zeros((2, 1), np.int64), full, RANKS)
    with pytest.raises(AssertionError, match="int64 overflows"):
        add(np.zeros((2, 1), np.int64), full, RANKS + 2)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=2, max_size=12))
def test_moments_of_single_values_are_those_of_fractions(values):
    """Rows of one value are summed without any rounding of theirs: var is right to the last bits."""
    mu, sigma2 = exact_moments(values)
    reach = max(map(Fraction, values)) - min(map(Fraction, values))
    for terms_of in (row_terms, column_terms):
        mean, var = moments_on_ranks([np.reshape(values, (-1, 1))], terms_of=terms_of)
        assert abs(Fraction(float(mean)) - mu) <= abs(mu) * Fraction(2) ** -52 + reach * Fraction(2) ** -51
        assert abs(Fraction(float(var)) - sigma2) <= sigma2 * Fraction(2) ** -50
        if sigma2 == 0:
            assert var == 0
