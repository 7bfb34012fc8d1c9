"""What has to hold, and whether it does: ratios of times of candidates that were measured in turn.

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

Over = Literal["geometric mean", "worst", "total"]
Verdict = Literal["met", "missed", "within noise", "lost"]
LEAST_PASSES = 5
"""An interval of fewer is too likely to miss the true median."""

LAYOUTS = ("NCHW", "channels-last", "dense")


@dataclass(frozen=True)
class Target:
    """One line of the table of targets.

    Attributes
    ----------
    name : str
    groups : tuple of str
        Of the cases that it is about.
    limit : float
    peer : str
        Whom syncbn is compared with.
    ours : str
        The candidate that is syncbn's.
    at_most : bool
        False: peer's time ÷ ours ("times as fast") has to be at least the limit.
        True: ours ÷ peer's time ("times as long") has to be at most the limit.
    over : {"geometric mean", "worst", "total"}
        How cases become one number: "total" is the ratio of the times of all layers of a network.
    cases : tuple of str
        Names of cases; empty is all of the groups.
    """

    name: str
    groups: tuple[str, ...]
    limit: float
    peer: str
    ours: str = "syncbn"
    at_most: bool = False
    over: Over = "geometric mean"
    cases: tuple[str, ...] = ()

    def fulfils(self, ratio: float) -> bool:
        """Tell whether a ratio is on the right side of the limit."""
        return ratio <= self.limit if self.at_most else ratio >= self.limit


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


TARGETS = (
    Target("forward NCHW, against torch", ("forward, NCHW",), 4.0, "torch"),
    Target("forward channels-last, against torch", ("forward, channels-last",), 1.3, "torch"),
    Target("backward NCHW, against torch", ("backward, NCHW",), 1.3, "torch"),
    Target("backward channels-last, against torch", ("backward, channels-last",), 1.5, "torch"),
    Target("dense, float64 sums, against torch", ("forward+backward, dense",), 1.0, "torch", "syncbn float64"),
    Target("dense, exact sums, against torch", ("forward+backward, dense",), 0.5, "torch"),
    Target("a small call (64×64 forward)", ("forward, dense",), 1.5, "torch", at_most=True, cases=("64×64",)),
    *(
        Target(f"{direction} {layout}, against JAX", (f"{direction}, {layout}",), 1.0, "jax", over="worst")
        for layout in LAYOUTS
        for direction in ("forward", "backward")
    ),
    Target("forward, against the memory limit", ("forward, memory limit",), 1.25, "limit", at_most=True),
    Target("backward, against the memory limit", ("backward, memory limit",), 1.25, "limit", at_most=True),
    *(Target(f"{norm}, against torch", (f"forward+backward, {norm}",), 1.0, "torch") for norm in ("GN", "LN", "IN")),
    Target("evaluation, against torch", ("evaluation",), 1.0, "torch"),
    Target("evaluation, against ONNX Runtime", ("evaluation",), 1.0, "onnxruntime"),
    Target("two threads against one", ("forward+backward, threads",), 1.7, "1 thread", "2 threads"),
    Target("SyncBN on 2 ranks, against gloo", ("SyncBN, forward+backward",), 5.0, "gloo", over="total"),
    Target("training step of mlp, against torch", ("training, mlp",), 1.5, "torch", at_most=True),
    Target("training step of resnet, against torch", ("training, resnet",), 1.5, "torch", at_most=True),
)


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
