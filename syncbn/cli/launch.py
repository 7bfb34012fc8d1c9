"""The launcher: it runs the command on MPI ranks and fails if any rank is lost."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from syncbn._core.threads import usable_cores
from syncbn.cli import completion, terminal
from syncbn.cli.errors import CommandError
from syncbn.cli.forward import forwarded
from syncbn.cli.lifeline import Lifeline
from syncbn.cli.mpiexec import INSTALL, mpiexec_command
from syncbn.cli.session import session

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set the number of threads of kernels and BLAS."""

_LOAD_MPI = "import mpi4py; mpi4py.rc.initialize = False; import mpi4py.MPI"
"""Program that fails if mpi4py cannot load MPI: otherwise each rank would print a traceback."""


class Outcome(NamedTuple):
    """The end of the processes of a command.

    Attributes
    ----------
    code : int
        Largest exit code.
    result : str
        Result that a process has passed to `completion.save_result`, or "".
    """

    code: int
    result: str


def run_on_ranks(argv: Sequence[str], ranks: int, program: Sequence[str] = ("-m", "syncbn.cli")) -> int:
    """Run ``syncbn ARGV`` on this number of ranks on this machine and return its exit code; see `run_processes`."""
    return run_processes(*ranks_command(argv, ranks, program), ranks).code


def ranks_command(argv: Sequence[str], ranks: int, program: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs a program on ranks, and the environment variables that it needs.

    Every rank is ``python -m mpi4py PROGRAM ARGV``, so that an uncaught exception on one rank ends all of them.

    Raises
    ------
    CommandError
        mpiexec, mpi4py or the MPI library is missing.
    """
    if importlib.util.find_spec("mpi4py") is None:
        raise CommandError(f"{ranks} ranks need mpi4py: {INSTALL}")
    loading = subprocess.run([sys.executable, "-c", _LOAD_MPI], capture_output=True, text=True, check=False)
    if loading.returncode:
        reason = " ".join(loading.stderr.splitlines()[-1:])
        raise CommandError(f"{ranks} ranks need mpi4py, but it cannot load MPI ({reason}): {INSTALL}")
    command, environment = mpiexec_command(ranks)
    return [*command, sys.executable, "-m", "mpi4py", *program, *argv], environment | thread_variables(ranks)


def run_processes(command: Sequence[str], environment: Mapping[str, str], count: int = 1) -> Outcome:
    """Run a command that starts ``count`` processes, each of which calls `completion.report`.

    Their output goes to the standard streams of this process. The processes end when this one does, however it ends,
    and at Ctrl-C, SIGTERM and SIGHUP: by themselves, or else they are killed.

    Raises
    ------
    CommandError
        A process has not called `completion.report`.
    """
    with tempfile.TemporaryDirectory(prefix="syncbn-") as name:
        directory = Path(name)
        lifeline = Lifeline(directory)
        environment = {**environment, completion.VARIABLE: name, **terminal.environment()}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with session(command, environment, **pipes) as process, lifeline.of(process), forwarded(process):
            code = process.wait()
        codes, result = completion.read(directory, count), completion.read_result(directory)
    lost = [str(rank) for rank, code in enumerate(codes) if code is None]
    if lost and count == 1:
        raise CommandError(f"a process exited without completing (exit code {code})")
    if lost:
        names = f"rank{'s' * (len(lost) > 1)} {', '.join(lost)} of {count}"
        raise CommandError(f"{names} exited without completing (exit code of mpiexec: {code})")
    return Outcome(max(code for code in codes if code is not None) or code, result)


def thread_variables(ranks: int) -> dict[str, str]:
    """Return the thread variables that divide the cores among the ranks, except those that the user has set."""
    threads = str(max(1, usable_cores() // ranks))
    return {name: threads for name in THREAD_VARIABLES if name not in os.environ}
