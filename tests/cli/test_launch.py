"""The launcher reports a lost rank as a failure whatever mpiexec's exit code is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from syncbn._core.threads import usable_cores
from syncbn.cli import mpiexec
from syncbn.cli.errors import CommandError
from syncbn.cli.mpiexec import mpi_library, mpiexec_command

# The ranks run this script instead of the command; the first argument selects a behaviour.
SCRIPT = """
import os, sys, time
from pathlib import Path
from syncbn.cli import completion, ranks
from mpi4py import MPI
behaviour, rank = sys.argv[1], ranks.rank()
if behaviour == "vanish" and rank == 1:
    os._exit(0)
if behaviour == "killed" and rank == 1:
    os.kill(os.getpid(), 9)
if behaviour == "raise" and rank == 1:
    raise RuntimeError("an error of rank 1")
if behaviour == "sleep":
    Path(sys.argv[2], f"pid-{rank}").write_text(str(os.getpid()))
    time.sleep(60)
if behaviour == "threads":
    threads = os.environ["OMP_NUM_THREADS"] + " " + os.environ["OPENBLAS_NUM_THREADS"]
    Path(sys.argv[2], f"threads-{rank}").write_text(threads)
MPI.COMM_WORLD.Barrier()
completion.report(7 if behaviour == "seven" and rank == 0 else 0)
"""

LAUNCH = """
import sys
from syncbn.cli.launch import run_on_ranks
sys.exit(run_on_ranks(sys.argv[3:], int(sys.argv[2]), program=[sys.argv[1]]))
"""


def run(tmp_path: Path, ranks: int, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the launcher with the script."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(script), str(ranks), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("behaviour", ["vanish", "killed", "raise"])
def test_a_lost_rank_is_a_failure(tmp_path: Path, behaviour: str) -> None:
    process = run(tmp_path, 2, behaviour)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert re.search(r"CommandError: ranks? .*1.* of 2 ", errors), errors


def test_the_exit_code_is_the_ranks(tmp_path: Path) -> None:
    for behaviour, code in (("succeed", 0), ("seven", 7)):
        process = run(tmp_path, 2, behaviour)
        process.communicate(timeout=30)
        assert process.returncode == code


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGHUP, 128 + signal.SIGHUP)],
)
def test_a_signal_ends_all_ranks(tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = run(tmp_path, 2, "sleep", str(tmp_path))
    files = [tmp_path / f"pid-{rank}" for rank in range(2)]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    wait_until(lambda: not any(Path("/proc", file.read_text()).exists() for file in files))


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_cores_are_divided_among_the_ranks_unless_the_user_sets_threads(tmp_path: Path) -> None:
    process = run(tmp_path, 2, "threads", str(tmp_path), OMP_NUM_THREADS="5")
    process.communicate(timeout=30)
    threads = str(max(1, usable_cores() // 2))
    expected = os.environ.get("OPENBLAS_NUM_THREADS", threads)
    assert [(tmp_path / f"threads-{rank}").read_text() for rank in range(2)] == [f"5 {expected}"] * 2


def test_missing_mpiexec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpiexec, "find_mpiexec", lambda: None)
    with pytest.raises(CommandError, match=r"pip install 'syncbn\[mpi\]'"):
        mpiexec_command(4)


def fake_mpiexec(directory: Path, version: str) -> Path:
    path = directory / "mpiexec"
    path.write_text(f"#!/bin/sh\necho '{version}'\n")
    path.chmod(0o755)
    return path


def test_open_mpi_needs_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake_mpiexec(tmp_path, "mpiexec (Open MPI) 5.0.8")
    assert mpi_library(path) == "Open MPI"
    monkeypatch.setattr(mpiexec, "find_mpiexec", lambda: path)
    for user, variables in ((0, {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"}), (1000, set())):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        command, environment = mpiexec_command(4)
        assert command[:4] == [str(path), "-n", "4", "--oversubscribe"]
        assert set(environment) == variables


def test_mpich_needs_no_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake_mpiexec(tmp_path, "HYDRA build details:")
    assert mpi_library(path) == "MPICH"
    monkeypatch.setattr(mpiexec, "find_mpiexec", lambda: path)
    assert mpiexec_command(3) == ([str(path), "-n", "3"], {})
