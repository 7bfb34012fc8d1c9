"""``syncbn scale``, run as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from syncbn._core.threads import usable_cores
from syncbn.cli.mpiexec import mpiexec_command
from syncbn.experiments.scale.measurement import sizes_for

GIVEN = ["--alpha", "2", "--bandwidth", "10", "--channels", "64,300", "--step-ms", "100"]


def scale(*arguments: str, under: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(under or []), sys.executable, "-m", "syncbn.cli", "scale", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=45,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def found(*arguments: str) -> dict[str, Any]:
    result = scale(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


def test_given_parameters_by_hand() -> None:
    """The prediction for two layers of 64 and 300 channels on a ring of 4 ranks equals a calculation by hand."""
    (row,) = [
        row
        for row in found(*GIVEN, "--at", "4", "--groups", "2", "--skew", "0", "--software", "1")["predictions"]
        if row["algorithm"] == "ring" and row["group_size"] is None
    ]
    nbytes = [2048, 8 * 257, 2048, 8 * 256, 2048, 8 * 601, 8 * 1201, 2048, 8 * 600, 8 * 1200]
    expected = sum(1 + 6 * 2 + 2 * 3 / 4 * n / 10_000 for n in nbytes)
    assert row["layer_microseconds"] == pytest.approx(expected / 2)
    assert row["step_milliseconds"] == pytest.approx(expected / 1000)
    assert row["share"] == pytest.approx(expected / (expected + 100_000))


def test_loggp_and_skew() -> None:
    late = found("--loggp", "1,0.5,0,0.1", "--channels", "64", "--skew", "100", "--at", "2")
    still = found("--loggp", "1,0.5,0,0.1", "--channels", "64", "--skew", "0", "--at", "2")
    difference = [
        a["step_milliseconds"] - b["step_milliseconds"]
        for a, b in zip(late["predictions"], still["predictions"], strict=True)
    ]
    assert difference == pytest.approx([2 * 0.1 / 3.141592653589793**0.5] * len(difference))  # two waits of σ/√π
    assert late["predictions"][0]["share"] is None
    assert late["computing_milliseconds"] is None


def test_measured_on_two_ranks(tmp_path: Path) -> None:
    output = tmp_path / "new"
    file = tmp_path / "scale.json"
    result = scale("--ranks", "2", "--network", "mlp", "--at", "2,16384", "--output", str(output), "--json", str(file))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.startswith("[1/1] measuring 2 ranks\nmlp: 2 layers, 128 channels, exact sums; ")
    value = json.loads(file.read_text())
    assert value == json.loads((output / "scale.json").read_text())
    assert (output / "scale.txt").read_text() in result.stdout + "\n"
    assert imread(output / "scale.png").shape[2] == 4
    assert value["fitted"] == value["machine"]
    assert value["fitted"]["link"]["model"] == "Hockney"
    assert [row["bytes"] for row in value["check"]["allreduce"]] == list(sizes_for(usable_cores() / 2))
    assert [row["ranks"] for row in value["check"]["step"]] == [2]
    assert {row["ranks"] for row in value["predictions"]} == {2, 16384}
    assert value["computing_milliseconds"] > 0
    assert "16,384" in result.stdout


def test_under_mpiexec(tmp_path: Path) -> None:
    command, _ = mpiexec_command(2)
    result = scale("--network", "mlp", "--json", str(tmp_path / "found.json"), under=command)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("predicted: ") == 1
    assert json.loads((tmp_path / "found.json").read_text())["measurements"][0]["ranks"] == 2


def test_preset_shows_the_published_times() -> None:
    result = scale("--preset", "lassen", "--step-ms", "900")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "Lassen, one rank per node" in result.stdout
    assert "github.com/converged-computing/metrics-operator-experiments" in result.stdout
    assert "the rest of a step takes 900.0 ms (given)" in result.stdout
