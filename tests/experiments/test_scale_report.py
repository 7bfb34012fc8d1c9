"""The report of ``syncbn scale`` for invented measurements, and the published reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from syncbn.experiments.scale.algorithms import as_mpich
from syncbn.experiments.scale.config import ScaleConfig
from syncbn.experiments.scale.fit import Timing
from syncbn.experiments.scale.links import Hockney
from syncbn.experiments.scale.measurement import SIZES, Measurement
from syncbn.experiments.scale.model import Machine, allreduce_time
from syncbn.experiments.scale.report import ScaleReport
from syncbn.experiments.scale.skew import NormalSkew

PAGES = Path(__file__).parents[2] / "docs/benchmarks"
TRUE = Machine(Hockney(2.0, 0.0005), 0.0, 1.0, NormalSkew(0.0))


def measurement(ranks: int, cores_per_rank: float, factor: float = 1.0) -> Measurement:
    timings = [Timing(ranks, n, factor * allreduce_time(TRUE, as_mpich, ranks, n)) for n in SIZES]
    layers = {"local": 50_000.0, "float64": 55_000.0, "exact": 60_000.0, "one_rank": 51_000.0}
    return Measurement(ranks, cores_per_rank, timings, 0.0, layers, [-3.0, -1.0, 1.0, 3.0], 30_000.0)


def report(*measurements: Measurement, load: float = 0.0) -> ScaleReport:
    return ScaleReport(ScaleConfig(at=(2, 64)), TRUE, "invented", measurements, TRUE, None, 100.0, "given", load)


def test_validation_compares_predicted_with_measured_times() -> None:
    found = report(measurement(2, 1.0)).as_json()["check"]
    assert [row["bytes"] for row in found["allreduce"]] == list(SIZES)
    for row in found["allreduce"]:
        assert row["predicted"] == pytest.approx(row["measured"])
    (step,) = found["step"]
    assert step["measured"] == 10.0  # 60 − 50 ms
    assert step["no_skew"] < step["normal"]
    assert step["no_skew"] < step["measured_delays"]


def test_groups_larger_than_all_ranks_have_no_row() -> None:
    """Their cost would be that of the ranks there are."""
    config = ScaleConfig(at=(2, 16), groups=(8, 64))
    text = ScaleReport(config, TRUE, "invented", (), None, None, 100.0, "given", 0.0).as_text()
    (row,) = (line for line in text.splitlines() if line.lstrip().startswith("≥"))
    assert row.split()[:2] == ["≥8", "8"]


def test_warning_of_ranks_that_share_cores() -> None:
    text = report(measurement(2, 1.0), measurement(4, 0.5, factor=100.0)).as_text()
    assert "4 ranks share 2 cores" in text
    assert "2 ranks share" not in text
    assert "other programs" not in text


def test_warning_of_a_busy_machine() -> None:
    assert "other programs were running (load 2.5)" in report(measurement(2, 1.0), load=2.5).as_text()


@pytest.mark.parametrize("name", ["scale", "scale-lassen", "scale-google-compute-engine", "scale-aws-eks"])
def test_pages_show_the_numbers_of_the_json(name: str) -> None:
    found = json.loads((PAGES / f"{name}.json").read_text())
    text = (PAGES / f"{name}.txt").read_text()
    assert f"parameters: {found['origin']}" in text
    assert {row["ranks"] for row in found["predictions"]} >= {2, 16384}
    for row in found["predictions"]:
        if row["group_size"] is None:
            (shown,) = (line for line in text.splitlines() if line.split()[:2] == [f"{row['ranks']:,}", "all"])
            assert f"{row['layer_microseconds']:,.0f}" in shown.split()
