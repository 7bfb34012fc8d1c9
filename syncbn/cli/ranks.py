"""What this process is, before MPI is initialized: a rank that an mpiexec started, or a process of its own.

Arguments are checked before MPI starts, so that all ranks can leave with exit code 2 at once; only
the environment tells by then who they are.
"""

from __future__ import annotations

import os

_RANK = ("PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MPI_LOCALRANKID")
_SIZE = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")


def under_mpiexec() -> bool:
    """Tell whether an mpiexec (or srun with a PMI) started this process."""
    return _first(_RANK) is not None


def rank() -> int:
    """Return this process's number in the world, 0 for a process of its own."""
    return _first(_RANK) or 0


def world_size() -> int | None:
    """Return the number of ranks: 1 for a process of its own, None where the launcher does not say."""
    return _first(_SIZE) if under_mpiexec() else 1


def _first(names: tuple[str, ...]) -> int | None:
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdigit()), None)
