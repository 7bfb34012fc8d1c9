"""How many threads a kernel takes."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

LEAST_BYTES = 1 << 20
"""Smaller arrays are done before a second thread has woken up."""

LOCAL_RANKS = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")
"""Where MPI's launchers (MPICH, Open MPI, MVAPICH) tell a process how many ranks its node has."""

SLURM_CORES, SLURM_RANKS = "SLURM_CPUS_PER_TASK", "SLURM_NTASKS_PER_NODE"
"""Where Slurm tells a task how many cores it has, and how many tasks there are. Other launchers' ranks share a task."""

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
    """Return ``OMP_NUM_THREADS`` if it is set, else this rank's share of the usable cores: found once, as by OpenMP."""
    if threads := _number("OMP_NUM_THREADS"):
        return threads
    if ranks := next((number for name in LOCAL_RANKS if (number := _number(name))), 0):
        return max(1, usable_cores() // ranks)
    return _number(SLURM_CORES) or max(1, usable_cores() // max(1, _number(SLURM_RANKS)))


def threads_for(size: int) -> int:
    """Return the number of threads for kernels that read ``size`` bytes."""
    return thread_limit() if size >= LEAST_BYTES else 1


def _number(name: str) -> int:
    """Return the number in an environment variable such as ``2`` or ``2,1``; 0 where there is none."""
    text = os.environ.get(name, "").split(",")[0]
    return int(text) if text.isdigit() else 0
