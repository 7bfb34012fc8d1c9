"""One `MPIComm` for each mpi4py communicator that users hand over, kept with it."""

from __future__ import annotations

from typing import Any

from syncbn.comm.library import import_mpi
from syncbn.comm.mpi import MPIComm

_keyval: int | None = None


def world() -> MPIComm:
    """Return the one wrapper of ``MPI.COMM_WORLD``. Collective at its first call."""
    return wrap(import_mpi().COMM_WORLD)


def wrap(comm: Any) -> MPIComm:
    """Return the wrapper that is kept with an mpi4py communicator, making it at the first call.

    Collective at the first call. The wrapper is an attribute of the MPI communicator, so call numbers
    live as long as it does.
    """
    global _keyval
    mpi: Any = import_mpi()
    if not isinstance(comm, mpi.Intracomm):
        raise TypeError(
            f"comm must be None, an mpi4py intracommunicator or a syncbn communicator, got {type(comm).__name__}"
        )
    if _keyval is None:
        _keyval = mpi.Comm.Create_keyval()
    wrapper: MPIComm | None = comm.Get_attr(_keyval)
    if wrapper is None:
        wrapper = MPIComm(comm)
        comm.Set_attr(_keyval, wrapper)
    return wrapper
