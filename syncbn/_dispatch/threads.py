"""How many threads a kernel takes."""

from __future__ import annotations

import os
from functools import cache

LEAST_BYTES = 1 << 20
"""Smaller arrays are done before a second thread has woken up."""

LOCAL_RANKS = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE")
"""Where launchers (MPICH, Open MPI, MVAPICH, Slurm) tell a process how many ranks its node has."""


@cache
def thread_limit() -> int:
    """Return ``OMP_NUM_THREADS`` if it is set, else this node's cores ÷ its ranks: found once, as OpenMP does."""
    if threads := _number("OMP_NUM_THREADS"):
        return threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ranks = next((number for name in LOCAL_RANKS if (number := _number(name))), 1)
    return max(1, cores // ranks)


def threads_for(size: int) -> int:
    """Return the number of threads for kernels that read ``size`` bytes."""
    return thread_limit() if size >= LEAST_BYTES else 1


def _number(name: str) -> int:
    """Return the number in an environment variable such as ``2`` or ``2,1``; 0 where there is none."""
    text = os.environ.get(name, "").split(",")[0]
    return int(text) if text.isdigit() else 0
