"""The kernels of exact sums against their reference implementations and fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncbn import reference
from syncbn._core.kernels import available, load_kernels

BUILDS = [load_kernels(which) for which in available()]
WIDTHS = {np.float32: 32, np.float64: 64}

arrays = st.sampled_from(list(WIDTHS)).flatmap(
    lambda dtype: st.lists(st.floats(width=WIDTHS[dtype]), max_size=40).map(lambda values: np.array(values, dtype))
)


def every(name, inputs, out):
    """Return the output of the reference implementation, after comparing all builds with it."""
    expected = np.full_like(out, 7)
    getattr(reference, name)(*[np.copy(each) if isinstance(each, np.ndarray) else each for each in inputs], expected)
    for build in BUILDS:
        found = np.full_like(out, 7)
        vars(build)[name](*[np.copy(each) if isinstance(each, np.ndarray) else each for each in inputs], found)
        np.testing.assert_array_equal(found, expected, err_msg=name)
    return expected


def limbs_of(values_rn):
    """Return the limbs of each row, and the unit of the first limb."""
    highest, negative_lowest = every("exact_sum_range", (values_rn,), np.empty(2))
    if np.isinf(highest):
        highest, negative_lowest = 0, 0
    width = int(highest + negative_lowest) // 48 + 4
    limbs = every("exact_sum_limbs", (values_rn, -int(negative_lowest)), np.empty((len(values_rn), width), np.int64))
    return limbs, -int(negative_lowest)


def nearest(exact):
    """Return the nearest float64."""
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


@given(arrays)
@example(np.array([5e-324, -1.7976931348623157e308]))
@example(np.array([np.inf, 1.0, -np.inf]))
@example(np.array([np.inf, np.nan]))
@example(np.array([-0.0]))
def test_any_values(values):
    limbs, lowest = limbs_of(values[None])
    precision = np.finfo(values.dtype).nmant + 1
    (total,) = every("exact_sum_round", (limbs, lowest, precision), np.empty(1))
    if not np.isfinite(values).all():
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(total, values[~np.isfinite(values)].astype(np.float64).sum())
    else:
        exact = sum(map(Fraction, values.tolist()), Fraction())
        if precision == 53:
            assert total == nearest(exact)
        else:
            assert abs(Fraction(total) - exact) <= abs(exact) * Fraction(1, 2**precision)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_place_of_a_long_row(dtype):
    """The carry comes after 1,024 terms; one value of each sign and exponent lies at each place around that."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    values = rng.uniform(-1, 1, (3, 2050)).astype(dtype)
    values = np.ldexp(values, rng.integers(info.minexp - 20, info.maxexp - 1, values.shape)).astype(dtype)
    values[0] = info.max  # the largest possible carries
    values[1, 1020:1030] = info.tiny / 8
    limbs, lowest = limbs_of(values)
    for row, row_limbs in zip(values, limbs, strict=True):
        total = sum(limb << (48 * k) for k, limb in enumerate(row_limbs[:-1].tolist()))
        assert total * Fraction(2) ** lowest == sum(map(Fraction, row.tolist()))
        assert (row_limbs[:-2] >= 0).all()
        assert (row_limbs[:-2] < 2**48).all()
        assert row_limbs[-1] == 0


@given(
    st.lists(st.integers(-(2**62), 2**62), min_size=3, max_size=6),
    st.integers(-1074, 600),
    st.sampled_from([11, 24, 53]),
)
@example([1, 0, 1], 0, 53)  # below half of the last place
@example([2**43, 0, 1], 0, 53)  # half of the last place of 2⁹⁶: to even, down
@example([3 * 2**43, 0, 1], 0, 53)  # to even, up
@example([2**43 + 1, 0, 1], 0, 53)  # above half
@example([2**43, 0, -1], 0, 53)
@example([2**48 - 1, 2**48 - 1, 0], 0, 53)  # rounding makes one bit more
@example([0, 0, 2**62], 900, 53)
@example([-1, 0, 0], -1074, 53)
@example([0, 0, 2**58], 0, 11)  # the last limb has more bits than the others and the precision together
@example([1, 0, 3 * 2**47 + 2**60], 0, 11)
def test_rounding(limbs, lowest, precision):
    """Limbs of the sum over ranks may have carries left in them."""
    integers = np.array([[*limbs, 0]], np.int64)
    (total,) = every("exact_sum_round", (integers, lowest, precision), np.empty(1))
    exact = sum(limb << (48 * k) for k, limb in enumerate(limbs)) * Fraction(2) ** lowest
    if precision == 53:
        assert total == nearest(exact)
    else:
        assert math.isfinite(total)
        assert abs(Fraction(total) - exact) <= abs(exact) * Fraction(1, 2**precision)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((1, 0, 0), np.nan), ((0, 1, 0), np.inf), ((0, 0, 1), -np.inf), ((0, 1, 1), np.nan), ((1, 1, 1), np.nan)],
)
@pytest.mark.parametrize("ranks", [1, 32767])
def test_values_that_are_not_finite_on_many_ranks(counts, expected, ranks):
    values = [np.nan] * counts[0] + [np.inf] * counts[1] + [-np.inf] * counts[2]
    limbs, lowest = limbs_of(np.array([[*values, 1.0]]))
    (total,) = every("exact_sum_round", (limbs * ranks, lowest, 53), np.empty(1))
    np.testing.assert_array_equal(total, expected)
