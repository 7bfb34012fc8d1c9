"""The launcher: a rank that is lost is a failure, whatever mpiexec says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from syncbn.cli import launch
from syncbn.cli.errors import CommandError
from syncbn.cli.launch import library_of, mpiexec_command

# What the ranks run instead of the command, by the name of the first argument.
STAND_IN = """
import os, sys, time
from pathlib import Path
from syncbn.cli import completion, ranks
from mpi4py import MPI
what, rank = sys.argv[1], ranks.rank()
if what == "vanish" and rank == 1:
    os._exit(0)
if what == "killed" and rank == 1:
    os.kill(os.getpid(), 9)
if what == "raise" and rank == 1:
    raise RuntimeError("rank 1 has had enough")
if what == "sleep":
    Path(sys.argv[2], f"pid-{rank}").write_text(str(os.getpid()))
    time.sleep(60)
if what == "threads":
    threads = os.environ["OMP_NUM_THREADS"] + " " + os.environ["OPENBLAS_NUM_THREADS"]
    Path(sys.argv[2], f"threads-{rank}").write_text(threads)
MPI.COMM_WORLD.Barrier()
completion.report(7 if what == "seven" and rank == 0 else 0)
"""

LAUNCH = """
import sys
from syncbn.cli.launch import run_on_ranks
sys.exit(run_on_ranks(sys.argv[3:], int(sys.argv[2]), program=[sys.argv[1]]))
"""


def run(tmp_path: Path, ranks: int, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the launcher with a stand-in for the command."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(script), str(ranks), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("how", ["vanish", "killed", "raise"])
def test_a_lost_rank_is_a_failure(tmp_path: Path, how: str) -> None:
    process = run(tmp_path, 2, how)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "CommandError: rank" in errors
    assert "ended without finishing" in errors


def test_the_exit_code_is_the_ranks(tmp_path: Path) -> None:
    for what, code in (("fine", 0), ("seven", 7)):
        process = run(tmp_path, 2, what)
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


def wait_until(true, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_cores_are_shared_among_the_ranks_unless_the_user_decides(tmp_path: Path) -> None:
    process = run(tmp_path, 2, "threads", str(tmp_path), OMP_NUM_THREADS="5")
    process.communicate(timeout=30)
    share = str(max(1, launch.usable_cores() // 2))
    expected = os.environ.get("OPENBLAS_NUM_THREADS", share)
    assert [(tmp_path / f"threads-{rank}").read_text() for rank in range(2)] == [f"5 {expected}"] * 2


def test_no_mpiexec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_mpiexec", lambda: None)
    with pytest.raises(CommandError, match=r"pip install 'syncbn\[mpi\]'"):
        mpiexec_command(4)


def fake_mpiexec(directory: Path, says: str) -> Path:
    path = directory / "mpiexec"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_open_mpi_is_told_to_oversubscribe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpiexec = fake_mpiexec(tmp_path, "mpiexec (Open MPI) 5.0.8")
    assert library_of(mpiexec) == "Open MPI"
    monkeypatch.setattr(launch, "find_mpiexec", lambda: mpiexec)
    for user, extra in ((0, {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"}), (1000, set())):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        command, environment = mpiexec_command(4)
        assert command[:4] == [str(mpiexec), "-n", "4", "--oversubscribe"]
        assert set(environment) == extra


def test_mpich_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpiexec = fake_mpiexec(tmp_path, "HYDRA build details:")
    assert library_of(mpiexec) == "MPICH"
    monkeypatch.setattr(launch, "find_mpiexec", lambda: mpiexec)
    assert mpiexec_command(3) == ([str(mpiexec), "-n", "3"], {})
