"""Whether the targets hold.

Noise. A run consists of passes, each in new processes with new arrays, and each pass gives one value of a
target. The value of the run is their median; its interval reaches from the smallest to the largest, which holds
the true median with probability 1 − 2^(1−n) for n passes, whatever the distribution (94 % for 5, 97 % for 6).
A target is lost when it was met in the recorded run and now misses its limit by more than noise: the whole
interval is beyond the limit, and has no point in common with the interval of the recorded run. Fewer than 5
passes can't tell.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from results import Measurement, Results
from targets import TARGETS, Over, Target

Verdict = Literal["met", "missed", "within noise", "lost"]
LEAST_PASSES = 5
"""An interval of fewer is too likely to miss the true median."""


@dataclass(frozen=True)
class Outcome:
    """What a run says about a target.

    Attributes
    ----------
    target : Target
    value, low, high : float
        Median, smallest and largest value of the passes.
    passes : int
    of : str
        The case that the value is of, where it is that of the worst.
    """

    target: Target
    value: float
    low: float
    high: float
    passes: int
    of: str = ""

    @property
    def met(self) -> bool:
        """Whether the value is on the right side of the limit."""
        return self.target.fulfils(self.value)

    @property
    def surely_missed(self) -> bool:
        """Whether every pass is on the wrong side, and they are enough to tell."""
        return self.passes >= LEAST_PASSES and not self.target.fulfils(self.low if self.target.at_most else self.high)


def evaluate(results: Results, targets: Sequence[Target] = TARGETS) -> list[Outcome]:
    """Return the outcomes of the targets whose cases were measured."""
    outcomes = []
    for target in targets:
        cases = [case for group in target.groups for case in results.group(group)]
        cases = [case for case in cases if not target.cases or case.name in target.cases]
        if cases:
            outcomes.append(_OVER[target.over](target, cases))
    return outcomes


def verdict(outcome: Outcome, recorded: dict[str, Any] | None) -> Verdict:
    """Compare with the entry of the recorded run for the same target, None where it has none."""
    if outcome.met:
        return "met"
    if recorded is None or not recorded["met"]:
        return "missed"
    apart = outcome.high < recorded["low"] or outcome.low > recorded["high"]
    return "lost" if outcome.surely_missed and apart else "within noise"


def as_json(outcome: Outcome, said: Verdict) -> dict[str, Any]:
    """Return what the record keeps of a target."""
    target = outcome.target
    return {
        "name": target.name,
        "ratio": f"{target.ours} / {target.peer}" if target.at_most else f"{target.peer} / {target.ours}",
        "limit": target.limit,
        "at_most": target.at_most,
        "over": target.over,
        "value": round(outcome.value, 4),
        "low": round(outcome.low, 4),
        "high": round(outcome.high, 4),
        "of": outcome.of,
        "met": outcome.met,
        "verdict": said,
    }


def case_ratios(target: Target, case: Measurement) -> list[float]:
    """Return the target's ratio for one case in each pass."""
    if target.at_most:
        return case.ratios(target.ours, target.peer)
    return case.ratios(target.peer, target.ours)


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

    ours, peer = totals(target.ours), totals(target.peer)
    pairs = zip(ours, peer, strict=True)
    return _outcome(target, [mine / other if target.at_most else other / mine for mine, other in pairs])


def _outcome(target: Target, by_pass: list[float], of: str = "") -> Outcome:
    return Outcome(target, statistics.median(by_pass), min(by_pass), max(by_pass), len(by_pass), of)


_OVER: dict[Over, Callable[[Target, list[Measurement]], Outcome]] = {
    "geometric mean": _geometric_mean,
    "worst": _worst,
    "total": _total,
}
