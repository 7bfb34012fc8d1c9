"""Exact sums in one process: any array, axis and dtype, against `math.fsum`."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import syncbn
from syncbn import SerialComm


@given(st.lists(st.floats(-1e300, 1e300), max_size=50), st.randoms())
def test_the_order_does_not_matter(values, random):
    expected = math.fsum(values)
    assert syncbn.exact_sum(np.array(values, np.float64)) == expected
    random.shuffle(values)
    assert SerialComm().exact_sum(np.array(values, np.float64)) == expected


def test_an_ordinary_sum_depends_on_the_order(rng):
    """The negative control."""
    values = rng.standard_normal(1000) * 10.0 ** rng.integers(-8, 8, 1000)
    orders = [rng.permutation(values) for _ in range(20)]
    assert len({float(np.sum(order)) for order in orders}) > 1
    assert {float(syncbn.exact_sum(order)) for order in orders} == {math.fsum(values)}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_results_are_rounded_once_to_the_dtype(dtype, rng):
    values = rng.standard_normal(5000).astype(dtype)
    total = syncbn.exact_sum(values)
    assert type(total) is dtype
    exact = sum(map(Fraction, values.tolist()))
    neighbours = [np.nextafter(total, dtype(-np.inf)), total, np.nextafter(total, dtype(np.inf))]
    assert min(neighbours, key=lambda each: abs(Fraction(float(each)) - exact)) == total


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([65504, 65504, -65504], np.float16, 65504),  # the sum so far may be beyond the dtype
        ([65504, 65504], np.float16, np.inf),
        ([-3.4e38, -3.4e38], np.float32, -np.inf),
        ([1e308, 1e308, -1e308], np.float64, 1e308),
        ([6e-8], np.float16, np.float16(6e-8)),
        ([1e-45] * 3, np.float32, np.float32(4.2e-45)),
        ([1, 2**-24], np.float32, 1),  # ties to even
        ([1 + 2**-23, 2**-24], np.float32, 1 + 2**-22),
        ([1, 2**-24, 2**-100], np.float32, 1 + 2**-23),
        ([-0.0], np.float64, 0),
        ([], np.float64, 0),
        ([np.inf, 1], np.float32, np.inf),
        ([np.inf, -np.inf], np.float32, np.nan),
    ],
)
def test_extreme_values(values, dtype, expected):
    total = syncbn.exact_sum(np.array(values, dtype))
    np.testing.assert_array_equal(total, dtype(expected))
    assert total.dtype == dtype
    assert not (total == 0 and np.signbit(total))


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (), (0, 2), (2, 0), (0, 1, 2)])
@pytest.mark.parametrize("order", ["C", "F", "strided", "swapped"])
def test_axes_are_those_of_numpy(axis, order, rng):
    x = rng.integers(-9, 9, (4, 3, 5)).astype(np.float32)  # so that NumPy's sums are exact
    x = {"C": x, "F": np.asfortranarray(x), "strided": np.repeat(x, 2, 1)[:, ::2], "swapped": x.astype(">f4")}[order]
    found, expected = syncbn.exact_sum(x, axis=axis), x.sum(axis=axis)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
    assert type(found) is type(expected)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_empty_arrays(shape):
    for axis in (0, None):
        found = syncbn.exact_sum(np.ones(shape), axis=axis)
        assert found.shape == np.ones(shape).sum(axis=axis).shape
        assert not np.any(found)


def test_arguments_are_not_written(rng):
    x = rng.standard_normal((3, 4))
    x.flags.writeable = False
    syncbn.exact_sum(x, axis=0)
    assert syncbn.exact_sum(np.float32(0.5)) == 0.5


@pytest.mark.parametrize(
    ("array", "axis", "error", "match"),
    [
        (np.ones(3, int), None, TypeError, "array must have dtype float16, float32 or float64, got int64"),
        (np.ones(3, complex), None, TypeError, "got complex128"),
        ([1.0], None, TypeError, r"array must be a NumPy array .* got list: convert it by numpy\.asarray"),
        (np.ma.ones(3), None, TypeError, "masked array"),
        (np.ones(3), 1, ValueError, r"axis must be in \[-1, 1\) for 1 axes, got 1"),
        (np.ones(3), 0.0, TypeError, r"axis must be an integer, got 0\.0"),
        (np.ones((3, 3)), (0, -2), ValueError, r"axis must not contain an axis twice, got \(0, -2\)"),
    ],
)
def test_wrong_arguments(array, axis, error, match):
    with pytest.raises(error, match=match):
        syncbn.exact_sum(array, axis=axis)
