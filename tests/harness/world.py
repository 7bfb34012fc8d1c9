"""The ranks of this test run: those that mpiexec started, or one process without MPI.

MPI is imported only here and only under mpiexec, so that the run in one process tests syncbn without MPI.
"""

from __future__ import annotations

import os
from typing import Any

from syncbn.cli.ranks import under_mpiexec
from syncbn.comm.launcher import check_launcher, single_process_problem

RANKS = 0
"""Number of ranks of this run; 0 means one process without MPI."""

RANK = 0

COMM: Any = None
"""A duplicate of COMM_WORLD, which keeps messages of the harness separate from those of tests."""

if under_mpiexec() or single_process_problem(1):
    from mpi4py import MPI

    COMM = MPI.COMM_WORLD.Dup()
    RANKS, RANK = COMM.size, COMM.rank
    check_launcher(RANKS)

STDERR = os.dup(2)
"""Duplicate of the file descriptor of stderr, which pytest does not capture."""
