"""Runs one test suite on one number of ranks, by means of the launcher of the ``syncbn`` command."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.outcome import Outcome, judge, read_report
from syncbn.cli.launch import THREAD_VARIABLES
from syncbn.cli.mpiexec import mpiexec_command
from syncbn.cli.session import session

TESTS = Path(__file__).resolve().parents[1]

Show = Callable[[str], object]


def run_suite(
    ranks: int,
    suite: Path,
    logs: Path,
    pytest_args: Sequence[str] = (),
    *,
    limit: float = 600.0,
    show: Show | None = None,
) -> Outcome:
    """Run the tests in ``suite`` on this number of ranks; 0 is one process without MPI.

    Rank 0's output is passed to ``show`` while it is produced and written to ``logs/rank-0.log``; the output of
    rank r is written to ``logs/rank-r.log``. After ``limit`` seconds the run is terminated.

    Raises
    ------
    CommandError
        There is no mpiexec.
    """
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    environment = {"SYNCBN_TEST_RANKS": str(ranks), "SYNCBN_TEST_LOGS": str(logs.resolve())}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    pytest = [sys.executable, "-m", "pytest", "-p", "harness.completion"]
    if ranks:
        mpiexec, extra = mpiexec_command(ranks)
        environment |= dict.fromkeys(THREAD_VARIABLES, "1") | extra
        # -m mpi4py: an exception outside a test ends all ranks. No cache: ranks would write to it at the same time.
        pytest[1:3] = ["-m", "mpi4py", "-m", "pytest"]
        pytest = [*mpiexec, *pytest, "-p", "harness.agreement", "-p", "no:cacheprovider"]
    start = time.monotonic()
    exit_code = _run([*pytest, *pytest_args], suite, environment, logs, limit, show)
    seconds = time.monotonic() - start
    reports = [read_report(logs / f"rank-{rank}.json") for rank in range(max(ranks, 1))]
    problems = [] if exit_code is not None else [f"not finished after {limit:g} s"]
    return Outcome(ranks, seconds, problems + judge(exit_code, reports), reports, logs)


def _run(
    command: list[str], directory: Path, environment: dict[str, str], logs: Path, limit: float, show: Show | None
) -> int | None:
    """Run the command and return its exit code, or None if it had to be terminated."""
    running: list[int] = []
    try:
        with (
            _copied_to(logs / "rank-0.log", show) as output,
            session(command, environment, cwd=directory, stdout=output, stderr=subprocess.STDOUT) as process,
        ):
            try:
                return process.wait(limit)
            except subprocess.TimeoutExpired:
                return None
            finally:
                if process.poll() is None:
                    running = [pid for path in logs.glob("rank-*.json") if (pid := read_report(path).get("pid"))]
                    _signal(running, signal.SIGUSR1)  # every rank writes its stacks
                    time.sleep(1)
    finally:
        _signal(running, signal.SIGKILL)  # MPICH starts each rank in a session of its own, which outlives mpiexec's


@contextmanager
def _copied_to(log: Path, show: Show | None) -> Iterator[int]:
    """Yield the write end of a pipe whose contents a thread copies to the log and to ``show``."""
    read_end, write_end = os.pipe()
    reader = threading.Thread(target=_copy, args=(read_end, log, show), daemon=True)
    reader.start()
    try:
        yield write_end
    finally:
        os.close(write_end)
        reader.join(5)  # no longer: a process that outlives the run keeps the pipe open


def _copy(read_end: int, log: Path, show: Show | None) -> None:
    with log.open("wb") as file:
        while chunk := os.read(read_end, 65536):
            file.write(chunk)
            file.flush()
            if show is not None:
                show(chunk.decode(errors="replace"))
    os.close(read_end)


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
