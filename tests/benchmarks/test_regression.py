"""The regression check of the benchmark on invented times, without measurements."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench
import pytest
import record
from case import Candidate, Case, DisagreementError, check
from regression import Outcome, as_json, evaluate, status_of
from results import Results
from targets import Target

SPEED = Target("times as fast", ("forward",), 2.0, "baseline")
COST = Target("times as long", ("forward",), 1.5, "baseline", at_most=True)
SMALL_SPREAD = (0.99, 1.0, 1.0, 1.01, 1.0)
LARGE_SPREAD = (0.6, 0.8, 1.0, 1.2, 1.4)


def invented(ratios: dict[str, float], spread: Sequence[float] = SMALL_SPREAD, weight: int = 1) -> Results:
    """Return results with these ratios of baseline to syncbn per case, and one pass for each factor in ``spread``."""
    results = Results()
    for name, ratio in ratios.items():
        for factor in spread:
            seconds = {"syncbn": [1.0, 2.0, 4.0], "baseline": [factor * ratio * t for t in (1.0, 2.0, 4.0)]}
            line: dict[str, Any] = {"section": "batch_norm", "group": "forward", "name": name, "ranks": 1}
            results.add(line | {"bytes": 4096, "weight": weight, "point": None, "seconds": seconds})
    return results


def outcome(target: Target, ratio: float, spread: Sequence[float] = SMALL_SPREAD) -> Outcome:
    """Return the outcome of one case."""
    (only,) = evaluate(invented({"a": ratio}, spread), [target])
    return only


def recorded(target: Target, ratio: float, spread: Sequence[float] = SMALL_SPREAD) -> dict[str, Any]:
    """Return the entry of a recorded run."""
    earlier = outcome(target, ratio, spread)
    return {"met": earlier.met, "low": earlier.low, "high": earlier.high}


def test_value_is_the_median_and_the_interval_the_range_of_the_passes() -> None:
    only = outcome(SPEED, 3.0, LARGE_SPREAD)
    assert (only.value, only.low, only.high) == pytest.approx((3.0, 1.8, 4.2))
    inverse = outcome(COST, 0.5)
    assert (inverse.value, inverse.low, inverse.high) == pytest.approx((2.0, 2 / 1.01, 2 / 0.99))


def test_cases_become_one_number() -> None:
    ratios = {"a": 1.0, "b": 4.0}
    (mean,) = evaluate(invented(ratios), [SPEED])
    assert mean.value == pytest.approx(2.0)
    (worst,) = evaluate(invented(ratios), [Target("", ("forward",), 2.0, "baseline", over="worst")])
    assert (worst.value, worst.of) == (pytest.approx(1.0), "a")
    (costliest,) = evaluate(invented(ratios), [Target("", ("forward",), 2.0, "baseline", at_most=True, over="worst")])
    assert (costliest.value, costliest.of) == (pytest.approx(1.0), "a")
    (total,) = evaluate(invented(ratios), [Target("", ("forward",), 2.0, "baseline", over="total")])
    assert total.value == pytest.approx(2.5)
    (chosen,) = evaluate(invented(ratios), [Target("", ("forward",), 2.0, "baseline", cases=("b",))])
    assert chosen.value == pytest.approx(4.0)
    assert evaluate(invented(ratios), [Target("", ("backward",), 2.0, "baseline")]) == []


@pytest.mark.parametrize(("target", "good", "bad"), [(SPEED, 2.5, 1.5), (COST, 1.0, 0.4)])
def test_status(target: Target, good: float, bad: float) -> None:
    assert status_of(outcome(target, good), None) == "met"
    assert status_of(outcome(target, bad), None) == "missed"
    assert status_of(outcome(target, bad), recorded(target, bad)) == "missed"
    assert status_of(outcome(target, bad), recorded(target, good)) == "lost"


def test_a_target_missed_within_noise_is_not_lost() -> None:
    assert status_of(outcome(SPEED, 1.9), recorded(SPEED, 2.5)) == "lost"
    assert status_of(outcome(SPEED, 1.9, LARGE_SPREAD), recorded(SPEED, 2.5)) == "within noise"  # some passes meet it
    assert status_of(outcome(SPEED, 1.9), recorded(SPEED, 2.5, LARGE_SPREAD)) == "within noise"  # a noisy record
    assert status_of(outcome(SPEED, 1.0, (1.0,)), recorded(SPEED, 2.5)) == "within noise"  # one pass is inconclusive
    noisy = outcome(SPEED, 1.95, LARGE_SPREAD)
    again = as_json(noisy, status_of(noisy, recorded(SPEED, 2.5)))
    assert status_of(outcome(SPEED, 0.5), again) == "lost"  # the run before has not made the target a missed one


def test_each_machine_has_a_record_of_its_own() -> None:
    names = {"Intel(R) Xeon(R) Processor": "intel-xeon-processor", "AMD EPYC 9B45 64-Core": "amd-epyc-9b45-64-core"}
    assert {cpu: record.directory_name(cpu) for cpu in names} == names
    assert record.directory_name("") == "unknown"


def test_exit_code_and_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = {"cpu": "a processor", "cores": 2, "instruction_sets": [], "kernels": "baseline", "load": 0.0}
    monkeypatch.setattr(bench, "describe", lambda: machine)
    monkeypatch.setattr(bench, "evaluate", lambda results: evaluate(results, [SPEED]))

    def run(ratio: float, *options: str) -> int:
        monkeypatch.setattr(bench, "run", lambda *_: invented({"a": ratio, "b": ratio}))
        return bench.main(["--output", str(tmp_path), *options])

    assert run(2.5, "--quick") == 0
    assert record.read_targets(tmp_path / record.JSON, machine) == {}  # a short run is not a record
    assert run(1.5) == 0  # not met before, so not lost
    assert run(2.5) == 0
    good = (tmp_path / record.JSON).read_text()
    assert json.loads(good)["targets"][0]["met"] is True
    assert run(1.5) == 1
    assert (tmp_path / record.JSON).read_text() == good  # otherwise a second run would not find the loss
    assert json.loads((tmp_path / record.LOST / record.JSON).read_text())["targets"][0]["status"] == "lost"
    assert "lost" in (tmp_path / record.LOST / "speed.txt").read_text()
    assert run(2.4) == 0
    assert record.read_targets(tmp_path / record.JSON, machine)
    assert record.read_targets(tmp_path / record.JSON, machine | {"cores": 64}) == {}  # another machine


def test_candidates_must_agree() -> None:
    def case(other: float) -> Case:
        values = {"one": 2.0, "other": other}
        candidates = {name: Candidate(lambda v=value: [1.0, v], lambda y: (y,)) for name, value in values.items()}
        return Case("group", "name", candidates | {"reference": Candidate(lambda: None)})

    check(case(2.0 + 1e-6))
    with pytest.raises(DisagreementError, match="group, name: other and one differ by"):
        check(case(2.001))
    with pytest.raises(DisagreementError):
        check(case(float("nan")))
