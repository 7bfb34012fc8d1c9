"""Runs one suite with one number of ranks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.outcome import Outcome, judge, read_report

TESTS = Path(__file__).resolve().parents[1]


class MissingMPIError(Exception):
    """No mpiexec was found."""


def mpiexec_command(ranks: int) -> tuple[list[str], dict[str, str]]:
    """Return the launcher's command for so many ranks and the environment that it needs.

    The mpiexec beside this Python comes first: it belongs to the MPI wheel that mpi4py uses.
    """
    beside = Path(sys.executable).parent / "mpiexec"
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if launcher is None:
        raise MissingMPIError("no mpiexec beside this Python or on PATH: pip install 'syncbn[mpi]'")
    command = [launcher, "-n", str(ranks)]
    version = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False).stdout
    if "Open MPI" in version or "OpenRTE" in version:
        # Open MPI refuses more ranks than cores, and to run as root as containers do, unless told so.
        return [*command, "--oversubscribe"], {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return command, {}


def run_suite(
    ranks: int,
    suite: Path,
    logs: Path,
    pytest_args: Sequence[str] = (),
    *,
    limit: float = 600.0,
    show: Callable[[str], object] | None = None,
) -> Outcome:
    """Run the tests in ``suite`` on ``ranks`` ranks, or with 0 in one process without MPI.

    Rank 0's output goes to ``show`` as it comes and to ``logs/rank-0.log``, that of rank r to
    ``logs/rank-r.log``. After ``limit`` seconds the run is ended.
    """
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    environment = {**os.environ, "SYNCBN_TEST_RANKS": str(ranks), "SYNCBN_TEST_LOGS": str(logs.resolve())}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    pytest = [sys.executable, "-m", "pytest", "-p", "harness.completion"]
    if ranks:
        launcher, extra = mpiexec_command(ranks)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment |= threads | extra
        # -m mpi4py: a rank that dies of an exception outside a test ends the others. No cache: ranks would race.
        pytest[1:3] = ["-m", "mpi4py", "-m", "pytest"]
        pytest = [*launcher, *pytest, "-p", "harness.agreement", "-p", "no:cacheprovider"]
    start = time.monotonic()
    exit_code = _run([*pytest, *pytest_args], suite, environment, logs, limit, show)
    seconds = time.monotonic() - start
    reports = [read_report(logs / f"rank-{rank}.json") for rank in range(max(ranks, 1))]
    problems = [] if exit_code is not None else [f"not over after {limit:g} s"]
    return Outcome(ranks, seconds, problems + judge(exit_code, reports), reports, logs)


def _run(
    command: list[str],
    directory: Path,
    environment: dict[str, str],
    logs: Path,
    limit: float,
    show: Callable[[str], object] | None,
) -> int | None:
    """Run the command and return its exit code, or None when it had to be ended."""
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    reader = threading.Thread(target=_copy, args=(process.stdout, logs / "rank-0.log", show), daemon=True)
    reader.start()
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            _end(process, logs)
        reader.join(5)


def _copy(stream: Any, log: Path, show: Callable[[str], object] | None) -> None:
    with stream, log.open("wb") as file:
        while chunk := os.read(stream.fileno(), 65536):
            file.write(chunk)
            file.flush()
            if show is not None:
                show(chunk.decode(errors="replace"))


def _end(process: subprocess.Popen[bytes], logs: Path) -> None:
    """Have every rank write its stacks, then end the launcher, its process group and the ranks."""
    pids = [pid for path in logs.glob("rank-*.json") if (pid := read_report(path).get("pid"))]
    for pid in pids:
        _signal(os.kill, pid, signal.SIGUSR1)
    time.sleep(1)
    _signal(os.killpg, process.pid, signal.SIGTERM)  # lets mpiexec clean up
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    _signal(os.killpg, process.pid, signal.SIGKILL)
    for pid in pids:  # MPICH gives each rank a session of its own, out of reach of killpg
        _signal(os.kill, pid, signal.SIGKILL)
    process.wait()


def _signal(kill: Callable[[int, int], None], pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        kill(pid, number)
