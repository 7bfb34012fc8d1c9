"""Checks, the parts of a claim that the data can confirm or contradict, and the verdict that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
    """

    text: str
    outcome: bool | None
    evidence: str
    interval: Interval | None = None

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def verdict(checks: Sequence[Check]) -> Verdict:
    """Return the verdict of the checks.

    "holds": the data confirm all of them. "holds in part": they confirm some. "does not hold": they confirm none and
    contradict at least one. "not seen here": they neither confirm nor contradict any.
    """
    outcomes = [check.outcome for check in checks]
    if not outcomes:
        raise ValueError("a verdict needs at least one check")
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
    unit: str = "points",
    factor: float = 100.0,
    confidence: float = CONFIDENCE,
) -> Check:
    """Return the check that a − b is below a margin, from values that are paired by seed.

    It is confirmed if the whole interval of the mean of a − b is below ``margin``, contradicted if it is above, and
    neither if the margin is inside, or if there is a single pair.

    Parameters
    ----------
    text : str
    a, b : sequence of float
        Values with equal seeds at equal positions.
    margin : float
        0 for "a is less than b", a positive number for "a is at most that much more than b".
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
    difference = interval([x - y for x, y in zip(a, b, strict=True)], confidence)
    shown = f"{sum(a) / len(a) * factor:.3g} against {sum(b) / len(b) * factor:.3g} {unit}"
    if difference.half_width is None:
        return Check(text, None, f"{shown}; one seed, so no interval", difference)
    outcome = None
    if difference.mean + difference.half_width < margin:
        outcome = True
    elif difference.mean - difference.half_width > margin:
        outcome = False
    shown += f"; difference {difference.mean * factor:+.3g} ± {difference.half_width * factor:.2g}"
    if margin:
        shown += f", margin {margin * factor:.3g}"
    return Check(text, outcome, f"{shown} ({100 * confidence:.3g} % interval, {difference.count} seeds)", difference)
