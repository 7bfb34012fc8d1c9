"""The MPI library, imported only when a communicator is made: importing it starts MPI."""

from __future__ import annotations

from types import ModuleType

_MISSING = (
    "synchronizing over MPI needs mpi4py and an MPI library: pip install 'syncbn[mpi]' brings both "
    "(without the mpich wheel where the cluster has its own MPI). For one process alone, pass "
    "comm=syncbn.SerialComm() or use BatchNorm."
)


def import_mpi() -> ModuleType:
    """Import and return ``mpi4py.MPI`` (this initializes MPI), or raise ImportError with what is missing."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # mpi4py's wheel finds the MPI library only now
        raise ImportError(_MISSING) from error
    return MPI
