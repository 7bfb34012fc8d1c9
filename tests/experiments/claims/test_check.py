"""Checks and verdicts: each rule confirms, contradicts and abstains."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from syncbn.experiments.claims.check import Check, less, verdict

TEXT = "a is less than b"


def outcomes(*values: bool | None) -> list[Check]:
    return [Check("", value, "") for value in values]


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ((True,), "holds"),
        ((True, True), "holds"),
        ((True, False), "holds in part"),
        ((True, None), "holds in part"),
        ((False,), "does not hold"),
        ((False, None), "does not hold"),
        ((None, None), "not seen here"),
    ],
)
def test_verdict(checks, expected):
    assert verdict(outcomes(*checks)) == expected
    assert verdict(outcomes(*reversed(checks))) == expected


def test_a_verdict_needs_a_check():
    with pytest.raises(ValueError, match="at least one check"):
        verdict([])


@pytest.mark.parametrize(
    ("a", "b", "margin", "outcome"),
    [
        ([0.10, 0.11, 0.12], [0.20, 0.22, 0.21], 0.0, True),
        ([0.20, 0.22, 0.21], [0.10, 0.11, 0.12], 0.0, False),
        ([0.10, 0.30, 0.20], [0.20, 0.20, 0.21], 0.0, None),
        ([0.205, 0.225, 0.215], [0.20, 0.22, 0.21], 0.01, True),  # half a point more, which the margin allows
        ([0.205, 0.225, 0.215], [0.20, 0.22, 0.21], 0.0, False),
        ([0.23, 0.25, 0.24], [0.20, 0.22, 0.21], 0.01, False),
        ([0.1], [0.9], 0.0, None),  # one seed has no interval
    ],
)
def test_less(a, b, margin, outcome):
    assert less(TEXT, a, b, margin=margin).outcome is outcome


def test_values_are_paired_by_seed():
    """Seeds differ by far more than the two settings: only pairs show the difference."""
    a = np.array([0.1, 0.5, 0.9])
    b = a + np.array([0.010, 0.011, 0.012])
    assert less(TEXT, a, b).outcome is True
    assert less(TEXT, a, b[::-1]).outcome is None
    with pytest.raises(ValueError, match="argument 2 is longer"):
        less(TEXT, a, [*b, 0.5])


def test_the_interval_is_that_of_student_with_the_confidence():
    a, b = np.array([0.1, 0.3, 0.2, 0.5]), np.array([0.2, 0.6, 0.1, 0.7])
    difference = a - b
    for confidence in (0.95, 0.9875):
        found = less(TEXT, a, b, confidence=confidence).interval
        low, high = stats.t.interval(confidence, 3, difference.mean(), stats.sem(difference))
        assert found.mean - found.half_width == pytest.approx(low)
        assert found.mean + found.half_width == pytest.approx(high)


def test_the_evidence_has_the_numbers():
    evidence = less(TEXT, [0.10, 0.12], [0.20, 0.22], margin=0.05).evidence
    assert evidence.startswith("11 against 21 points; difference -10 ± ")
    assert evidence.endswith(", margin 5 (95 % interval, 2 seeds)")
