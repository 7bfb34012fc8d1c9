"""The exact accumulators against Python integers and fractions, on many ranks that are added by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbn._core.kernels import kernels

finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e150, max_value=1e150)
RANKS = 32767
"""The largest number of ranks that the limbs have the capacity for."""
BELOW_ONE = np.nextafter(1.0, 0.0)  # all bits of the mantissa


def add(limbs, own, times=1):
    """Add a rank's limbs ``times`` over, as MPI_SUM does, but fail where int64 is too small."""
    total = [int(a) + int(b) * times for a, b in zip(limbs.ravel(), own.ravel(), strict=True)]
    assert all(-(2**63) <= limb < 2**63 for limb in total), "int64 overflows"
    return np.array(total, np.int64).reshape(limbs.shape)


def sum_on_ranks(parts, times=1):
    """Sum one channel's gradients, a list per rank, every rank there ``times`` over; x − μ = −1."""
    gradients = [np.array(part, float).reshape(-1, 1, 1) for part in parts]
    moments = np.ones((5, 1))
    ranks = []
    for dy in gradients:
        x, rows, magnitude = np.zeros_like(dy), np.empty((2, len(dy), 1)), np.empty((2, 1))
        kernels.rank_gradient_ranges(x, dy, False, moments, None, None, rows, magnitude, 1)
        ranks.append((x, dy, rows, magnitude))
    absmax = np.maximum.reduce([magnitude for *_, magnitude in ranks])
    limbs = np.zeros((4, 1), np.int64)
    for x, dy, rows, _ in ranks:
        own = np.empty((4, 1), np.int64)
        kernels.rank_gradient_sums(x, dy, False, moments, rows, absmax, own, None, 1)
        limbs = add(limbs, own, times)
    out, x = np.empty((4, 1)), np.empty((0, 1, 1))
    kernels.rank_input_gradient(x, x, False, None, 1, moments, absmax, np.stack([limbs] * 2), None, True, out, x, 1)
    np.testing.assert_array_equal(out[0], -out[1])
    return out[1, 0], float(absmax[0, 0])


def as_rows(part):
    x = np.ascontiguousarray(part, float)[:, None, :]
    return x, False, np.empty((3, len(x), 1))


def as_columns(part):
    x = np.ascontiguousarray(part, float).reshape(-1, 1, 1)
    return x, True, None


def moments_on_ranks(parts, times=1, seen=as_rows):
    """Return mean and var of one channel's rows: an array (rows, S) per rank, every rank there ``times`` over."""
    ranks = []
    for x, last, rows in map(seen, parts):
        counts, own = np.full(len(x), float(x.shape[1] * x.shape[2])), np.empty(3)
        kernels.rank_ranges(x, last, None, counts, rows, own, 1)
        ranks.append((x, last, counts, rows, own))
    combined = np.maximum.reduce([own for *_, own in ranks])
    limbs = np.zeros((4, 1), np.int64)
    for x, last, counts, rows, _ in ranks:
        own = np.empty((4, 1), np.int64)
        kernels.rank_sums(x, last, None, counts, rows, combined, own, None, 1)
        limbs = add(limbs, own, times)
    moments, x = np.empty((5, 1)), np.empty((0, 1, 1))
    count = sum(part[0].size for part in ranks) * times
    kernels.rank_normalize(x, True, count, combined, limbs, None, None, None, 1e-5, None, False, moments, x, 1)
    return moments[0, 0], moments[1, 0]


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
    total, absmax = sum_on_ranks([values])
    again, _ = sum_on_ranks(parts_of(data, values))
    assert total == again or (np.isnan(total) and np.isnan(again))
    exact = sum(map(Fraction, values))
    grid = max(Fraction(absmax), Fraction(2) ** -1001) * 2**-79
    assert abs(Fraction(float(total)) - exact) <= len(values) * grid + abs(exact) * Fraction(2) ** -52


@given(st.integers(0, 6), st.data())
def test_moments_are_the_same_for_every_split_and_order(size, data):
    seen, size = (as_rows, size) if size else (as_columns, 1)
    values = st.floats(allow_nan=False, allow_infinity=False, width=32)
    rows = data.draw(st.lists(st.lists(values, min_size=size, max_size=size), min_size=2, max_size=20))
    parts = [np.array(part, float).reshape(-1, size) for part in parts_of(data, rows)]
    assert moments_on_ranks(parts, seen=seen) == moments_on_ranks([np.array(rows)], seen=seen)


def test_plain_float64_sums_do_differ_by_order():
    values = np.array([1.0, 1e16, -1e16])
    assert (np.add.accumulate(values)[-1], np.add.accumulate(values[::-1])[-1]) == (0.0, 1.0)
    assert sum_on_ranks([values])[0] == sum_on_ranks([values[::-1]])[0] == 1.0


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_of_2_to_the_30_rows_on_32767_ranks_fit_int64(sign):
    values = np.full(32768, sign * BELOW_ONE)
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
def test_the_largest_moments_of_2_to_the_30_rows_on_32767_ranks_fit_int64(row):
    rows = np.tile(row, (32768, 1))
    mean, var = moments_on_ranks([rows], RANKS)
    exact_mean, exact_var = exact_moments(row)
    assert mean == pytest.approx(float(exact_mean), rel=4e-16, abs=1e-16)
    assert var == pytest.approx(float(exact_var), rel=4e-16, abs=0)


def test_one_rank_more_would_not_always_fit():
    """Fail beyond the bound, with limbs that have all their bits: the control."""
    full = np.full((2, 1), 2**48 - 1)
    add(np.zeros((2, 1), np.int64), full, RANKS)
    with pytest.raises(AssertionError, match="int64 overflows"):
        add(np.zeros((2, 1), np.int64), full, RANKS + 2)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=2, max_size=12))
def test_moments_of_single_values_are_those_of_fractions(values):
    """Rows of one value are summed without any rounding of theirs: var is right to the last bits."""
    mu, sigma2 = exact_moments(values)
    reach = max(map(Fraction, values)) - min(map(Fraction, values))
    for seen in (as_rows, as_columns):
        mean, var = moments_on_ranks([np.reshape(values, (-1, 1))], seen=seen)
        assert abs(Fraction(float(mean)) - mu) <= abs(mu) * Fraction(2) ** -52 + reach * Fraction(2) ** -51
        assert abs(Fraction(float(var)) - sigma2) <= sigma2 * Fraction(2) ** -50
        if sigma2 == 0:
            assert var == 0
