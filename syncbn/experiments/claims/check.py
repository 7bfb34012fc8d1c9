"""Checks, the parts of a claim that the data can confirm or contradict, and the verdict that they give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from syncbn.experiments.statistics import CONFIDENCE, Interval, interval

Verdict = Literal["holds", "holds in part", "does not hold", "not seen here"]
VERDICTS: tuple[Verdict, ...] = ("holds", "holds in part", "does not hold", "not seen here")


@dataclass(frozen=True)
class Check:
    """One part of a claim, with its outcome.

    Attributes
    ----------
    text : str
        The part, as a sentence.
    outcome : bool or None
        Whether the data confirm (True) or contradict (False) it; None if they do neither.
    evidence : str
        The numbers, as text.
    interval : Interval or None
        Interval of the difference that decides; None for a check without statistics.
    fact : bool
        Whether it follows from definitions, so that no data could contradict it. A fact is reported, but does not count
        in the verdict.
    """

    text: str
    outcome: bool | None
    evidence: str
    interval: Interval | None = None
    fact: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def verdict(checks: Sequence[Check]) -> Verdict:
    """Return the verdict of the checks that are not facts.

    "holds": the data confirm all of them. "holds in part": they confirm some. "does not hold": they confirm none and
    contradict at least one. "not seen here": they neither confirm nor contradict any.
    """
    outcomes = [check.outcome for check in checks if not check.fact]
    if not outcomes:
        raise ValueError("a verdict needs at least one check that is not a fact")
    if all(outcomes):
        return "holds"
    if any(outcomes):
        return "holds in part"
    return "does not hold" if False in outcomes else "not seen here"


def less(
    text: str,
    a: Sequence[float],
    b: Sequence[float],
    *,
    margin: float = 0.0,
    grid: float = 0.0,
    lost: tuple[Sequence[bool], Sequence[bool]] = ((), ()),
    unit: str = "points",
    factor: float = 100.0,
    confidence: float = CONFIDENCE,
) -> Check:
    """Return the check that a − b is below a margin, from values that are paired by seed.

    It is confirmed if the whole interval of the mean of a − b is below ``margin``, contradicted if it is above, and
    neither if the margin is inside, or if there is a single pair. The interval is never narrower than ± one step of the
    grid on which the values lie. A run that diverged never counts in favour of its side: the difference counts as at
    least the margin where the run of a is lost, and as at most the margin where that of b is.

    Parameters
    ----------
    text : str
    a, b : sequence of float
        Values with equal seeds at equal positions; NaN where a run that diverged has none, which is left out of the
        means in the evidence.
    margin : float
        0 for "a is less than b", a positive number for "a is at most that much more than b".
    grid : float
        Step of the grid on which the values lie; 0 if they are continuous. If all seeds choose the same point of a
        grid, their spread is 0, though the true value may lie anywhere within a step.
    lost : pair of sequences of bool
        Whether the runs of a and of b diverged, for each seed; empty if none did.
    unit : str
        Unit of ``factor`` times the values, for the evidence.
    factor : float
        100 shows fractions as points of percent.
    confidence : float
        Confidence of the interval.

    Raises
    ------
    ValueError
        Different numbers of values, or none.
    """
    excess = [x - y - margin for x, y in zip(a, b, strict=True)]
    lost_a, lost_b = (flags or [False] * len(a) for flags in lost)
    for at, (a_lost, b_lost) in enumerate(zip(lost_a, lost_b, strict=True)):
        if a_lost:
            excess[at] = max(0.0, excess[at])  # 0 if it is NaN
        if b_lost:
            excess[at] = min(0.0, excess[at])
    found = interval(excess, confidence)
    shown = f"{_mean(a) * factor:.3g} against {_mean(b) * factor:.3g} {unit}"
    if found.half_width is None:
        return Check(text, None, f"{shown}; one seed, so no interval", replace(found, mean=found.mean + margin))
    half = max(found.half_width, grid * (1 + 1e-9))  # a difference of one step, but for rounding, is inside
    outcome = True if found.mean + half < 0 else False if found.mean - half > 0 else None
    mean = found.mean + margin
    shown += f"; difference {mean * factor:+.3g} ± {half * factor:.2g}"
    if margin:
        shown += f", margin {margin * factor:.3g}"
    if count := sum(bool(of_a or of_b) for of_a, of_b in zip(lost_a, lost_b, strict=True)):
        shown += f", runs of {count} of {len(excess)} seeds diverged"
    shown += f" ({100 * confidence:.3g} % interval, {found.count} seeds)"
    return Check(text, outcome, shown, Interval(mean, half, found.count))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
