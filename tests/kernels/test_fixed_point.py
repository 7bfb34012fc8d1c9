"""The exact accumulators against Python integers and fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from syncbn._dispatch.kernels import kernels
from syncbn.reference import SUM_BITS

finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e150, max_value=1e150)


def sum_on_ranks(parts):
    """Sum one channel's values, a list per rank, as the ranks of a communicator would."""
    columns = [np.array(part, float).reshape(-1, 1) for part in parts]
    exponents = [np.empty(1, np.int16) for _ in columns]
    for column, exponent in zip(columns, exponents, strict=True):
        kernels.value_exponents(column, exponent)
    largest = np.maximum.reduce(exponents)
    words = np.zeros((1, 2), np.int64)
    for column in columns:
        own = np.empty((1, 2), np.int64)
        kernels.value_sums(column, largest, own)
        words += own
    total = np.empty(1)
    kernels.totals_from_sums(words, largest, total)
    return total[0], int(largest[0])


@given(st.lists(finite, min_size=1, max_size=30), st.data())
def test_sums_are_the_same_for_every_split_and_order_and_true_to_the_grid(values, data):
    total, exponent = sum_on_ranks([values])
    shuffled = data.draw(st.permutations(values))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    parts = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(values)], strict=True)]
    again, _ = sum_on_ranks(parts)
    assert total == again or (np.isnan(total) and np.isnan(again))
    exact = sum(map(Fraction, values))
    grid = Fraction(2) ** (exponent - SUM_BITS)
    assert abs(Fraction(float(total)) - exact) <= len(values) * grid + abs(exact) * Fraction(2) ** -52


def test_plain_float64_sums_do_differ_by_order():
    values = np.array([1.0, 1e16, -1e16])
    assert (np.add.accumulate(values)[-1], np.add.accumulate(values[::-1])[-1]) == (0.0, 1.0)
    assert sum_on_ranks([values])[0] == sum_on_ranks([values[::-1]])[0] == 1.0


def test_words_of_32767_ranks_fit_int64():
    """The worst case: every rank sends the largest words there are."""
    value = np.array([[-np.nextafter(1.0, 0.0)]])
    exponent, words = np.empty(1, np.int16), np.empty((1, 2), np.int64)
    kernels.value_exponents(value, exponent)
    kernels.value_sums(np.repeat(value, 4096, axis=0), exponent, words)
    total = np.empty(1)
    ranks = 32767
    with np.errstate(over="raise"):
        kernels.totals_from_sums(words * ranks, exponent, total)
    assert [int(w) * ranks for w in words[0]] == (words * ranks)[0].tolist()  # no wrap
    assert total[0] == float(Fraction(float(value[0, 0])) * 4096 * ranks)


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=2, max_size=12),
)
def test_moments_of_single_values_are_those_of_fractions(values):
    """Rows of one value are summed without any rounding of theirs: var is right to the last bits."""
    x = np.array(values, float).reshape(-1, 1)
    zero, count = np.zeros_like(x), np.ones(len(x))
    exponents, words = np.empty((1, 2), np.int16), np.empty((1, 5), np.int64)
    kernels.moment_exponents(x, zero, zero, count, exponents)
    kernels.moment_sums(x, zero, zero, count, exponents, words)
    mean, var, invstd = np.empty(1), np.empty(1), np.empty(1)
    kernels.moments_from_sums(words, exponents, len(x), 1e-5, mean, var, invstd)
    exact = [Fraction(v) for v in values]
    mu = sum(exact) / len(exact)
    sigma2 = sum((v - mu) ** 2 for v in exact) / len(exact)
    largest = max(abs(v) for v in exact)
    assert abs(Fraction(float(mean[0])) - mu) <= abs(mu) * Fraction(2) ** -52 + largest * Fraction(2) ** -76
    assert abs(Fraction(float(var[0])) - sigma2) <= sigma2 * Fraction(2) ** -50 + largest**2 * Fraction(2) ** -120
    if sigma2 == 0:
        assert var[0] == 0
