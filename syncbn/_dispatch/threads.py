"""How many threads a kernel takes."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

LEAST_BYTES = 1 << 20
"""Smaller arrays are done before a second thread has woken up."""

GIVEN = ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK")
"""Where users say how many threads a rank takes."""

LOCAL_RANKS = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE")
"""Where launchers (MPICH, Open MPI, MVAPICH, Slurm) tell a process how many ranks its node has."""


CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, or a container's quota if that is less."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    try:
        quota, period = CGROUP_QUOTA.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup, or "max"
        return cores


@cache
def thread_limit() -> int:
    """Return what `GIVEN` says, else the usable cores ÷ this node's ranks: found once, as OpenMP does."""
    if threads := next((number for name in GIVEN if (number := _number(name))), 0):
        return threads
    ranks = next((number for name in LOCAL_RANKS if (number := _number(name))), 1)
    return max(1, usable_cores() // ranks)


def threads_for(size: int) -> int:
    """Return the number of threads for kernels that read ``size`` bytes."""
    return thread_limit() if size >= LEAST_BYTES else 1


def _number(name: str) -> int:
    """Return the number in an environment variable such as ``2`` or ``2,1``; 0 where there is none."""
    text = os.environ.get(name, "").split(",")[0]
    return int(text) if text.isdigit() else 0
