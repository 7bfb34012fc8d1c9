"""The communicators that exist: one `MPIComm` for each mpi4py communicator that users pass, and the latest one."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from syncbn.comm.launcher import single_process_problem
from syncbn.comm.mpi import MPIComm, made
from syncbn.comm.mpi_import import check_intracommunicator, import_mpi

_keyval: int | None = None


def world() -> MPIComm:
    """Return the cached wrapper of ``MPI.COMM_WORLD``. Collective at its first call.

    See Also
    --------
    syncbn.MPIComm : A communicator of one's own, such as with a timeout.

    Examples
    --------
    >>> from syncbn.comm import world
    >>> world() is world()
    True
    """
    return wrap(import_mpi().COMM_WORLD)


def world_of_launcher() -> MPIComm | None:
    """Return the cached wrapper of ``MPI.COMM_WORLD`` if it has several ranks, otherwise None.

    Collective at its first call where there are several ranks. MPI is not initialized in a process that no launcher of
    MPI has started.
    """
    if "mpi4py.MPI" not in sys.modules and not _is_launched():
        return None
    try:
        several = import_mpi().COMM_WORLD.Get_size() > 1
    except (ImportError, RuntimeError):  # MPI is missing, or finalized
        return None
    return world() if several else None


@cache
def _is_launched() -> bool:
    """Return whether a launcher started several processes, of which this is one."""
    return bool(single_process_problem(1))


def latest() -> MPIComm:
    """Return the open communicator of all processes that was made last; without one, `world`, which is collective."""
    processes = import_mpi().COMM_WORLD.Get_size()
    usable = [comm for comm in made.values() if comm.size == processes and not comm._protocol.closed]
    return usable[-1] if usable else world()


def wrap(comm: Any) -> MPIComm:
    """Return the cached wrapper of an mpi4py communicator.

    Collective at the first call, which creates the wrapper, and after the wrapper was freed. It is an attribute of
    the MPI communicator, so it keeps its sequence numbers between calls and is freed with that communicator.
    """
    global _keyval
    check_intracommunicator(comm, "None, an mpi4py intracommunicator or a syncbn communicator")
    mpi: Any = import_mpi()
    if _keyval is None:
        _keyval = mpi.Comm.Create_keyval(delete_fn=_free)
    wrapper: MPIComm | None = comm.Get_attr(_keyval)
    if wrapper is None or wrapper._protocol.freed:
        wrapper = MPIComm(comm)
        comm.Set_attr(_keyval, wrapper)
    return wrapper


def _free(comm: Any, keyval: int, wrapper: MPIComm) -> None:  # noqa: ARG001 (the signature of a callback)
    """Free the wrapper of a communicator that all ranks are freeing, except ``MPI.COMM_WORLD`` at finalization."""
    if comm != import_mpi().COMM_WORLD:
        wrapper._protocol.free()
