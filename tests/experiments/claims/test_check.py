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


@pytest.mark.parametrize("facts", [(), (True,), (False,), (None, True)])
def test_facts_do_not_count(facts):
    known = [Check("", outcome, "", fact=True) for outcome in facts]
    assert verdict([*known, *outcomes(False)]) == "does not hold"
    assert verdict([*outcomes(None), *known]) == "not seen here"
    assert verdict([*outcomes(True), *known]) == "holds"
    with pytest.raises(ValueError, match="at least one check that is not a fact"):
        verdict(known)


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


@pytest.mark.parametrize(
    ("difference", "grid", "outcome"),
    [(-1.0, 1.0, None), (-1.0, 0.5, True), (-2.0, 1.0, True), (1.0, 1.0, None), (2.0, 1.0, False), (-1.0, 0.0, True)],
)
@pytest.mark.parametrize("scale", [1.0, 0.1, np.log10(3), 1e5])
def test_equal_values_on_a_grid_are_known_to_one_step(difference, grid, outcome, scale):
    """All seeds choose the same points, so the spread is 0; the difference of one step decides nothing."""
    b = np.full(5, 7.0 * scale)
    found = less(TEXT, b + difference * scale, b, grid=grid * scale)
    assert found.outcome is outcome
    assert found.interval.half_width == pytest.approx(grid * scale, rel=1e-6, abs=1e-9)


YES, NO, SOME = [True] * 3, [False] * 3, [True, False, False]


@pytest.mark.parametrize(
    ("a", "b", "lost", "margin", "outcome"),
    [
        ([0.9, 0.9, 0.9], [0.9, 0.9, 0.9], (YES, YES), 0.01, None),  # within the margin, but nothing was trained
        ([0.9, 0.9, 0.9], [0.91, 0.91, 0.91], (YES, NO), 0.0, None),  # a guess is not better than a poor network
        ([0.91, 0.91, 0.91], [0.9, 0.9, 0.9], (NO, YES), 0.0, None),
        ([0.2, 0.3, 0.2], [0.9, 0.9, 0.9], (NO, YES), 0.0, True),  # a divergence counts
        ([0.9, 0.9, 0.9], [0.2, 0.3, 0.2], (YES, NO), 0.0, False),
        ([0.9, 0.3, 0.3], [0.9, 0.3, 0.3], (SOME, SOME), 0.1, None),
        ([0.3, 0.3, 0.3], [0.3, 0.3, 0.3], (NO, NO), 0.1, True),
        ([0.0, 0.0, 0.0], [0.5, 0.5, 0.5], (YES, YES), 0.0, None),
    ],
)
def test_a_run_that_diverged_does_not_count_for_its_side(a, b, lost, margin, outcome):
    found = less(TEXT, a, b, lost=lost, margin=margin)
    assert found.outcome is outcome
    count = sum(a or b for a, b in zip(*lost, strict=True))
    assert (f"runs of {count} of 3 seeds diverged" in found.evidence) == (count > 0)
