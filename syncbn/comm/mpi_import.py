"""The import of mpi4py, which initializes MPI; it takes place when the first MPI communicator is made."""

from __future__ import annotations

from types import ModuleType

_MISSING = (
    "synchronization over MPI needs mpi4py and an MPI library: pip install 'syncbn[mpi]' installs both. "
    "If the cluster has its own MPI, install mpi4py only, built for it. For one process alone, pass "
    "comm=syncbn.SerialComm() or use BatchNorm."
)


def import_mpi() -> ModuleType:
    """Import ``mpi4py.MPI``, which initializes MPI, and return it; raise ImportError if a part is missing."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # the wheel of mpi4py loads the MPI library here
        raise ImportError(_MISSING) from error
    return MPI
