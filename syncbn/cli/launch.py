"""The launcher: it runs the command on MPI ranks and fails if any rank is lost."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from syncbn._core.threads import usable_cores
from syncbn.cli import completion, terminal
from syncbn.cli.errors import CommandError
from syncbn.cli.mpiexec import INSTALL, mpiexec_command
from syncbn.cli.session import session

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set the number of threads of kernels and BLAS."""


def run_on_ranks(argv: Sequence[str], ranks: int, program: Sequence[str] = ("-m", "syncbn.cli")) -> int:
    """Run ``syncbn ARGV`` on this number of ranks on this machine and return its exit code.

    Every rank is ``python -m mpi4py -m syncbn.cli ARGV``, so that an uncaught exception on one rank ends all of
    them. Ctrl-C, SIGTERM and SIGHUP end all ranks. Another ``program`` must call `completion.report` on every rank.

    Raises
    ------
    CommandError
        mpiexec or mpi4py is missing, or a rank was lost.
    """
    if importlib.util.find_spec("mpi4py") is None:
        raise CommandError(f"{ranks} ranks need mpi4py: {INSTALL}")
    command, environment = mpiexec_command(ranks)
    command += [sys.executable, "-m", "mpi4py", *program, *argv]
    with tempfile.TemporaryDirectory(prefix="syncbn-") as directory:
        environment |= {completion.VARIABLE: directory, **thread_variables(ranks), **terminal.environment()}
        with session(command, environment) as process:
            mpiexec_code = process.wait()
        codes = completion.read(Path(directory), ranks)
    if mpiexec_code == -signal.SIGPIPE:  # mpiexec forwards the output of the ranks
        raise BrokenPipeError
    lost = [str(rank) for rank, code in enumerate(codes) if code is None]
    if lost:
        names = f"rank{'s' * (len(lost) > 1)} {', '.join(lost)} of {ranks}"
        raise CommandError(f"{names} exited without completing (exit code of mpiexec: {mpiexec_code})")
    return max(code for code in codes if code is not None) or mpiexec_code


def thread_variables(ranks: int) -> dict[str, str]:
    """Return the thread variables that divide the cores among the ranks, except those that the user has set."""
    threads = str(max(1, usable_cores() // ranks))
    return {name: threads for name in THREAD_VARIABLES if name not in os.environ}
