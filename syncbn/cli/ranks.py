"""Rank and world size of this process, read from the environment before MPI is initialized.

Arguments are checked before MPI is initialized, so that all ranks can exit with code 2 without communication.
"""

from __future__ import annotations

import os

_RANK = ("PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MPI_LOCALRANKID")
_SIZE = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")


def under_mpiexec() -> bool:
    """Return whether mpiexec (or srun with a PMI) started this process."""
    return _first(_RANK) is not None


def rank() -> int:
    """Return the rank of this process in COMM_WORLD, 0 without mpiexec."""
    return _first(_RANK) or 0


def world_size() -> int | None:
    """Return the number of ranks, 1 without mpiexec; None if the environment does not contain it."""
    return _first(_SIZE) if under_mpiexec() else 1


def _first(names: tuple[str, ...]) -> int | None:
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdecimal()), None)
