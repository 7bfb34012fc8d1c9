"""Which rank of a test run this process is, as tests/run.py told it through the environment.

MPI is imported only here and only in a run on ranks, so that the run in one process tests a syncbn
without MPI. Ranks other than 0 send their output to a log of their own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

RANKS = int(os.environ.get("SYNCBN_TEST_RANKS", "0"))
"""Number of ranks of this run; 0 is one process without MPI."""

LOGS = Path(os.environ.get("SYNCBN_TEST_LOGS", "."))
"""Where this run's logs and completion reports go."""

COMM: Any = None
"""A duplicate of COMM_WORLD, so that the harness's messages never meet those of a test."""

RANK = 0


def _redirect_output(log: Path) -> None:
    """Send this process's stdout and stderr to ``log``, below the level of Python too."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


if RANKS:
    from mpi4py import MPI

    COMM = MPI.COMM_WORLD.Dup()
    RANK = COMM.rank
    if COMM.size != RANKS:  # N separate worlds of one rank: an mpiexec that mpi4py's MPI does not know
        sys.stderr.write(
            f"expected {RANKS} ranks, MPI says {COMM.size}: mpiexec and mpi4py belong to different MPI libraries\n"
        )
        sys.stderr.flush()
        os._exit(1)
    if RANK:
        _redirect_output(LOGS / f"rank-{RANK}.log")
    # Ranks that share pytest's directory remove each other's leftovers, and one that comes too late fails.
    temporary = LOGS / f"tmp-{RANK}"
    temporary.mkdir(exist_ok=True)
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(temporary)

STDERR = os.dup(2)
"""File descriptor of this rank's stderr as it was before pytest began to capture it."""


def tell(text: str) -> None:
    """Write ``text`` to this rank's log, whatever pytest captures."""
    os.write(STDERR, f"{text}\n".encode())
