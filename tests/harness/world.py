"""The rank of this process in a test run, from the environment set by tests/run.py.

MPI is imported only here and only in runs on ranks, so that the run in one process tests syncbn without MPI. The output
of ranks other than 0 is redirected to log files.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

RANKS = int(os.environ.get("SYNCBN_TEST_RANKS", "0"))
"""Number of ranks of this run; 0 means one process without MPI."""

LOGS = Path(os.environ.get("SYNCBN_TEST_LOGS", "."))
"""Directory of the logs and completion reports of this run."""

COMM: Any = None
"""A duplicate of COMM_WORLD, which keeps messages of the harness separate from those of tests."""

RANK = 0


def _redirect_output(path: Path) -> None:
    """Redirect the file descriptors of stdout and stderr to ``path``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


if RANKS:
    from mpi4py import MPI

    COMM = MPI.COMM_WORLD.Dup()
    RANK = COMM.rank
    if COMM.size != RANKS:  # mpiexec of another MPI library starts N worlds of one rank
        sys.stderr.write(
            f"expected {RANKS} ranks, MPI has {COMM.size}: mpiexec and mpi4py belong to different MPI libraries\n"
        )
        sys.stderr.flush()
        os._exit(1)
    if RANK:
        _redirect_output(LOGS / f"rank-{RANK}.log")
    # In a shared temporary directory, ranks would remove old files of pytest at the same time, which raises errors.
    temporary = LOGS / f"tmp-{RANK}"
    temporary.mkdir(exist_ok=True)
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(temporary)

STDERR = os.dup(2)
"""Duplicate of the file descriptor of stderr, which pytest does not capture."""


def log(text: str) -> None:
    """Write ``text`` to the log of this rank, bypassing the capture of pytest."""
    os.write(STDERR, f"{text}\n".encode())
