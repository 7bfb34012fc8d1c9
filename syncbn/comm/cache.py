"""One `MPIComm` for each mpi4py communicator that users pass, kept with it."""

from __future__ import annotations

from typing import Any

from syncbn.comm.mpi import MPIComm
from syncbn.comm.mpi_import import import_mpi

_keyval: int | None = None


def world() -> MPIComm:
    """Return the one wrapper of ``MPI.COMM_WORLD``. Collective at its first call."""
    return wrap(import_mpi().COMM_WORLD)


def wrap(comm: Any) -> MPIComm:
    """Return the wrapper that is kept with an mpi4py communicator, making it at the first call.

    Collective at the first call. The wrapper is an attribute of the MPI communicator: sequence numbers live as long
    as that does, and the wrapper is freed with it. A wrapper that was freed before is replaced.
    """
    global _keyval
    mpi: Any = import_mpi()
    if not isinstance(comm, mpi.Intracomm):
        raise TypeError(
            f"comm must be None, an mpi4py intracommunicator or a syncbn communicator, got {type(comm).__name__}"
        )
    if _keyval is None:
        _keyval = mpi.Comm.Create_keyval(delete_fn=_free)
    wrapper: MPIComm | None = comm.Get_attr(_keyval)
    if wrapper is None or wrapper._protocol.freed:
        wrapper = MPIComm(comm)
        comm.Set_attr(_keyval, wrapper)
    return wrapper


def _free(comm: Any, keyval: int, wrapper: MPIComm) -> None:  # noqa: ARG001 (the signature of a callback)
    """Free the wrapper of a communicator that all ranks are freeing; that of the world ends with the process."""
    if comm != import_mpi().COMM_WORLD:
        wrapper._protocol.free()
