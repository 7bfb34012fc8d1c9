"""Means and intervals against scipy and calculations by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from syncbn.experiments.statistics import Interval, interval


def test_interval_by_hand() -> None:
    # s of (1, 2, 3) is 1; with 2 degrees of freedom the quantile of p is (2p − 1)/√(2p(1 − p))
    result = interval([1.0, 2.0, 3.0])
    assert result.mean == 2.0
    assert result.half_width == pytest.approx(0.95 / math.sqrt(2 * 0.975 * 0.025) / math.sqrt(3), rel=1e-12)
    assert result.count == 3


@pytest.mark.parametrize("n", [2, 3, 5, 40])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_interval_is_scipys(n: int, confidence: float, rng: np.random.Generator) -> None:
    values = list(rng.normal(3.0, 2.0, n))
    low, high = stats.t.interval(confidence, n - 1, np.mean(values), stats.sem(values))
    result = interval(values, confidence)
    assert result.half_width is not None
    assert result.mean - result.half_width == pytest.approx(low, rel=1e-12)
    assert result.mean + result.half_width == pytest.approx(high, rel=1e-12)


def test_one_value_gives_no_interval() -> None:
    assert interval([0.25]) == Interval(0.25, None, 1)


def test_no_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        interval([])


def test_overlap() -> None:
    assert Interval(1.0, 0.5, 3).overlaps(Interval(1.9, 0.5, 3)) is True
    assert Interval(1.0, 0.5, 3).overlaps(Interval(2.1, 0.5, 3)) is False
    assert Interval(1.0, None, 1).overlaps(Interval(1.0, 0.5, 3)) is None
