"""The ranks of this test run: those that mpiexec or torchrun started, or one process without MPI.

MPI is imported only here and only under mpiexec, so that the run in one process tests syncbn without MPI.
"""

from __future__ import annotations

import os
from typing import Any

from syncbn.cli.ranks import under_mpiexec
from syncbn.comm.launcher import single_process_problem


class TorchWorld:
    """The ranks that torchrun started, with the methods of mpi4py's communicators that the harness calls."""

    def __init__(self, group: Any) -> None:
        self.group, self.size, self.rank = group, group.size(), group.rank()

    def allgather(self, value: Any) -> list[Any]:
        """Return the values of all ranks."""
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value, self.group)
        return values

    def Barrier(self) -> None:  # noqa: N802
        """Wait for all ranks."""
        torch.distributed.barrier(self.group)


RANKS = 0
"""Number of ranks of this run; 0 means one process without MPI."""

RANK = 0

COMM: Any = None
"""A duplicate of COMM_WORLD, or a `TorchWorld`, which keeps messages of the harness separate from those of tests."""

if under_mpiexec() or single_process_problem(1):
    from mpi4py import MPI

    COMM = MPI.COMM_WORLD.Dup()
    RANKS, RANK = COMM.size, COMM.rank
    if problem := single_process_problem(RANKS):
        raise RuntimeError(problem)
elif "TORCHELASTIC_RUN_ID" in os.environ:
    import torch.distributed

    torch.distributed.init_process_group("gloo")
    COMM = TorchWorld(torch.distributed.new_group())
    RANKS, RANK = COMM.size, COMM.rank

STDERR = os.dup(2)
"""Duplicate of the file descriptor of stderr, which pytest does not capture."""
