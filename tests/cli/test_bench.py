"""``syncbn bench`` with small settings, run as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

from syncbn._core.threads import usable_cores
from syncbn.cli.bench import thread_counts
from syncbn.cli.mpiexec import mpiexec_command
from syncbn.experiments.bench.kernels import SHAPES
from syncbn.experiments.overhead import KINDS
from syncbn.experiments.scale.measurement import sizes_for

TINY = ["--network", "mlp", "--rounds", "1"]


def bench(*arguments: str, under: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(under or []), sys.executable, "-m", "syncbn.cli", "bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=45,
        env={name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")},
    )


def test_two_ranks(tmp_path: Path) -> None:
    output = tmp_path / "new"
    result = bench("--ranks", "2", *TINY, "--output", str(output), "--json", str(tmp_path / "bench.json"))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found == json.loads((output / "bench.json").read_text())
    assert imread(output / "bench.png").shape[2] == 4
    assert (output / "bench.txt").read_text() in result.stdout + "\n"
    counts = thread_counts(usable_cores())
    assert [(row["threads"], tuple(row["shape"])) for row in found["kernels"]] == [
        (threads, shape) for threads in counts for shape in SHAPES
    ]
    for row in found["kernels"]:
        assert all(row["gigabytes"][name] > 0 for name in ("copy", "forward", "backward"))
    measured = found["measurement"]
    assert measured["ranks"] == 2
    assert [nbytes for ranks, nbytes, _ in measured["timings"] if ranks == 2] == list(sizes_for(usable_cores() / 2))
    assert all(measured["layers"][kind] > 0 for kind in KINDS)
    assert [advice["subject"] for advice in found["advice"]] == ["threads", "ranks", "group size", "reduction"]
    for advice in found["advice"]:
        assert advice["reason"] in result.stdout
    stages = len(counts) + 1
    assert result.stdout.startswith(f"[1/{stages}] kernels with 1 thread\n")
    assert f"[{stages}/{stages}] layers of mlp on 2 ranks\n" in result.stdout


def test_one_rank_needs_no_mpi() -> None:
    hide = (
        "import sys; sys.modules.update(mpi4py=None); from syncbn.cli import main; "
        "sys.exit(main(['bench', '--ranks', '1', '--network', 'mlp', '--rounds', '1', '--json']))"
    )
    result = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["measurement"]["ranks"] == 1
    assert result.stderr.startswith("[1/")  # progress goes to stderr, JSON to stdout


def test_under_mpiexec() -> None:
    command, _ = mpiexec_command(2)
    result = bench(*TINY, "--json", under=command)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["kernels"] == []
    assert found["measurement"]["ranks"] == 2


@pytest.mark.parametrize(
    ("cores", "expected"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (6, [1, 2, 4, 6])]
)
def test_thread_counts(cores: int, expected: list[int]) -> None:
    assert thread_counts(cores) == expected
