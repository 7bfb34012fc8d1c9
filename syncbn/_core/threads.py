"""The number of threads of a kernel."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from syncbn._core.environment import SettingError

LEAST_BYTES = 1 << 20
"""Minimum size for several threads: kernels for smaller arrays end before a second thread has started."""

LOCAL_RANKS = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")
"""Environment variables in which launchers (MPICH, Open MPI, MVAPICH) set the number of ranks of a node."""

SLURM_CORES, SLURM_RANKS = "SLURM_CPUS_PER_TASK", "SLURM_NTASKS_PER_NODE"
"""Environment variables in which Slurm sets the cores of a task and the tasks of a node, if it starts the ranks."""

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def affinity() -> set[int]:
    """Return the cores on which this process may run."""
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # macOS has no affinity
        return set(range(os.cpu_count() or 1))


def usable_cores(allowed: Collection[int] | None = None) -> int:
    """Return the number of cores in ``allowed`` (default: `affinity`), or a container's quota if that is less."""
    cores = len(affinity() if allowed is None else allowed)
    try:
        quota, period = CGROUP_QUOTA.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup, or "max"
        return cores


@cache
def thread_limit() -> int:
    """Return ``OMP_NUM_THREADS`` if it is set, else this rank's share of the usable cores. It is computed once.

    Raises
    ------
    SettingError
        ``OMP_NUM_THREADS`` is not a number of threads.
    """
    check_threads(["OMP_NUM_THREADS"])
    if threads := _number("OMP_NUM_THREADS"):
        return threads
    if ranks := next((number for name in LOCAL_RANKS if (number := _number(name))), 0):
        return max(1, usable_cores() // ranks)
    return _number(SLURM_CORES) or max(1, usable_cores() // max(1, _number(SLURM_RANKS)))


def threads_for(size: int) -> int:
    """Return the number of threads for kernels that read ``size`` bytes."""
    return thread_limit() if size >= LEAST_BYTES else 1


def check_threads(names: Iterable[str]) -> None:
    """Raise `SettingError` unless each of the environment variables is unset or has numbers of threads.

    OpenMP prints a message of its own for other values, and ignores them; with very many threads it crashes.
    """
    for name in names:
        text = os.environ.get(name, "1")
        if not all(re.fullmatch(r"\s*0*[1-9][0-9]{0,3}\s*", number) for number in text.split(",")):
            raise SettingError(f"{name} must be a number of threads from 1 to 9999, such as 2, got {text!r}")


def _number(name: str) -> int:
    """Return the first number in an environment variable such as ``2`` or ``2,1``; 0 if there is none."""
    text = os.environ.get(name, "").split(",")[0].strip()
    return int(text) if text.isdecimal() else 0
