"""The regression check: evaluation of the targets and comparison with the recorded run.

A run consists of passes, each in new processes with new arrays, and each pass gives one value of a target. The value of
the run is their median. Its interval is from the smallest to the largest value, which contains the true median with
probability 1 − 2^(1−n) for n passes and any distribution (94 % for 5, 97 % for 6).

A target is lost if it was met in the recorded run, or within noise, and now misses its limit by more than noise: the
whole interval is beyond the limit and disjoint from the interval of the recorded run. Fewer than 5 passes are
inconclusive.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from results import Measurement, Results
from targets import TARGETS, Over, Target

Status = Literal["met", "missed", "within noise", "lost"]
MIN_PASSES = 5
"""Minimum number of passes; with fewer the interval is too likely to miss the true median."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run for one target.

    Attributes
    ----------
    target : Target
    value, low, high : float
        Median, minimum and maximum of the values of the passes.
    passes : int
    of : str
        The case of the value if the target is about the worst case.
    """

    target: Target
    value: float
    low: float
    high: float
    passes: int
    of: str = ""

    @property
    def met(self) -> bool:
        """True if the value meets the limit."""
        return self.target.is_met_by(self.value)

    @property
    def surely_missed(self) -> bool:
        """True if there are enough passes and all of them miss the limit."""
        return self.passes >= MIN_PASSES and not self.target.is_met_by(self.low if self.target.at_most else self.high)


def evaluate(results: Results, targets: Sequence[Target] = TARGETS) -> list[Outcome]:
    """Return the outcomes of all targets with measured cases."""
    outcomes = []
    for target in targets:
        cases = [case for group in target.groups for case in results.group(group)]
        cases = [case for case in cases if not target.cases or case.name in target.cases]
        if cases:
            outcomes.append(_OVER[target.over](target, cases))
    return outcomes


def status_of(outcome: Outcome, recorded: dict[str, Any] | None) -> Status:
    """Return the status of a target; ``recorded`` is its entry in the recorded run, if there is one."""
    if outcome.met:
        return "met"
    if recorded is None or not (recorded["met"] or recorded.get("status") == "within noise"):
        return "missed"
    disjoint = outcome.high < recorded["low"] or outcome.low > recorded["high"]
    return "lost" if outcome.surely_missed and disjoint else "within noise"


def as_json(outcome: Outcome, status: Status) -> dict[str, Any]:
    """Return the entry of a target in the record."""
    target = outcome.target
    return {
        "name": target.name,
        "ratio": "{} / {}".format(*_ratio(target)),
        "limit": target.limit,
        "at_most": target.at_most,
        "over": target.over,
        "value": round(outcome.value, 4),
        "low": round(outcome.low, 4),
        "high": round(outcome.high, 4),
        "of": outcome.of,
        "met": outcome.met,
        "status": status,
    }


def case_ratios(target: Target, case: Measurement) -> list[float]:
    """Return the target's ratio for one case in each pass."""
    return case.ratios(*_ratio(target))


def _ratio(target: Target) -> tuple[str, str]:
    """Return the candidates in the numerator and in the denominator."""
    return (target.candidate, target.baseline) if target.at_most else (target.baseline, target.candidate)


def _geometric_mean(target: Target, cases: list[Measurement]) -> Outcome:
    by_pass = zip(*(case_ratios(target, case) for case in cases), strict=True)
    return _outcome(target, [statistics.geometric_mean(ratios) for ratios in by_pass])


def _worst(target: Target, cases: list[Measurement]) -> Outcome:
    outcomes = [_outcome(target, case_ratios(target, case), case.name) for case in cases]
    return (max if target.at_most else min)(outcomes, key=lambda outcome: outcome.value)


def _total(target: Target, cases: list[Measurement]) -> Outcome:
    def totals(candidate: str) -> list[float]:
        by_pass = zip(*(case.seconds_by_pass(candidate) for case in cases), strict=True)
        return [sum(time * case.weight for time, case in zip(times, cases, strict=True)) for times in by_pass]

    numerators, denominators = map(totals, _ratio(target))
    return _outcome(target, [n / d for n, d in zip(numerators, denominators, strict=True)])


def _outcome(target: Target, by_pass: list[float], of: str = "") -> Outcome:
    return Outcome(target, statistics.median(by_pass), min(by_pass), max(by_pass), len(by_pass), of)


_OVER: dict[Over, Callable[[Target, list[Measurement]], Outcome]] = {
    "geometric mean": _geometric_mean,
    "worst": _worst,
    "total": _total,
}
