"""Starts the command on MPI ranks, and tells whether all of it ran."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from syncbn._core.threads import usable_cores
from syncbn.cli import completion, terminal
from syncbn.cli.errors import CommandError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_INSTALL = "pip install 'syncbn[mpi]' (without the mpich wheel where the cluster has its own MPI)"


def run_on_ranks(argv: Sequence[str], ranks: int, program: Sequence[str] = ("-m", "syncbn.cli")) -> int:
    """Run ``syncbn ARGV`` on so many ranks of this machine and return its exit code.

    Every rank is ``python -m mpi4py -m syncbn.cli ARGV``, so that an uncaught exception ends all of
    them. Ctrl-C, SIGTERM or SIGHUP here ends them too. Another ``program`` must call `completion.report`.

    Raises
    ------
    CommandError
        No mpiexec, no mpi4py, or a rank was lost.
    """
    if importlib.util.find_spec("mpi4py") is None:
        raise CommandError(f"{ranks} ranks need mpi4py: {_INSTALL}")
    command, environment = mpiexec_command(ranks)
    command += [sys.executable, "-m", "mpi4py", *program, *argv]
    with tempfile.TemporaryDirectory(prefix="syncbn-") as directory:
        environment |= {completion.VARIABLE: directory, **_threads(ranks), **terminal.environment()}
        # A session of its own: Ctrl-C reaches this process alone, which then ends the ranks in order.
        with subprocess.Popen(
            command, env=os.environ | environment, stdin=subprocess.DEVNULL, start_new_session=True
        ) as process:
            try:
                with _signals_exit():
                    mpiexec_code = process.wait()
            finally:
                _end(process)
        codes = completion.read(Path(directory), ranks)
    if mpiexec_code == -signal.SIGPIPE:  # it passes on what the ranks print
        raise BrokenPipeError
    lost = [str(rank) for rank, code in enumerate(codes) if code is None]
    if lost:
        who = f"rank{'s' * (len(lost) > 1)} {', '.join(lost)} of {ranks}"
        raise CommandError(f"{who} ended without finishing (exit code of mpiexec: {mpiexec_code})")
    return max(code for code in codes if code is not None) or mpiexec_code


def mpiexec_command(ranks: int) -> tuple[list[str], dict[str, str]]:
    """Return the beginning of the command for so many ranks, and the environment that it needs."""
    mpiexec = find_mpiexec()
    if mpiexec is None:
        raise CommandError(f"{ranks} ranks need mpiexec, which is neither beside this Python nor on PATH: {_INSTALL}")
    command = [str(mpiexec), "-n", str(ranks)]
    if library_of(mpiexec) != "Open MPI":
        return command, {}
    # Open MPI refuses more ranks than cores, and ties each rank to one core, unless told otherwise.
    command += ["--oversubscribe", "--bind-to", "none"]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return command, root if os.geteuid() == 0 else {}


def find_mpiexec() -> Path | None:
    """Return the mpiexec beside this Python (it belongs to the MPI wheel that mpi4py uses), else that on PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    if beside.exists():
        return beside
    found = shutil.which("mpiexec")
    return Path(found) if found else None


def library_of(mpiexec: Path) -> str:
    """Return "MPICH", "Open MPI", or else the first line of what the launcher says about itself."""
    said = subprocess.run([mpiexec, "--version"], capture_output=True, text=True, check=False).stdout
    if "Open MPI" in said or "OpenRTE" in said or "PRRTE" in said:
        return "Open MPI"
    if "HYDRA" in said or "MPICH" in said:
        return "MPICH"
    return next(iter(said.splitlines()), "unknown")


def _threads(ranks: int) -> dict[str, str]:
    """Share the cores among the ranks, except where the user has decided."""
    share = str(max(1, usable_cores() // ranks))
    return {name: share for name in THREAD_VARIABLES if name not in os.environ}


@contextmanager
def _signals_exit() -> Iterator[None]:
    """Let SIGTERM and SIGHUP leave by an exception, so that the ranks are ended."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 (the signature of a handler)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End mpiexec, which then ends its ranks; nothing to do when it has ended."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
