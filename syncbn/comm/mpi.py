"""The communicator of the ranks of MPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from syncbn.comm.arguments import check_timeout
from syncbn.comm.communicator import Communicator
from syncbn.comm.mpi_import import import_mpi
from syncbn.comm.mpi_transport import MPITransport
from syncbn.comm.protocol import Protocol

if TYPE_CHECKING:
    from mpi4py import MPI


class MPIComm(Communicator):
    """The ranks of an MPI communicator, on a duplicate of it, so that no message matches one of the caller's own.

    Collective. A process makes one call at a time.

    Every collective begins with a handshake of one size, so ranks in different calls all detect that. A rank that
    can't enter a call (it has exited, crashed, closed the communicator, or is blocked in another communicator) is
    detected within a second on the same node; for other nodes only ``timeout`` helps.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, optional
        Default: ``MPI.COMM_WORLD``.
    timeout : float, optional
        Seconds that a call may wait for the other ranks before `SyncTimeoutError`. Default: without limit.

    Raises
    ------
    ImportError
        mpi4py or the MPI library is missing.
    TypeError
        ``comm`` is not an mpi4py intracommunicator.
    """

    _protocol: Protocol

    def __init__(self, comm: MPI.Intracomm | None = None, *, timeout: float | None = None) -> None:
        mpi: Any = import_mpi()
        base = mpi.COMM_WORLD if comm is None else comm
        if not isinstance(base, mpi.Intracomm):
            raise TypeError(f"comm must be an mpi4py intracommunicator, got {type(base).__name__}")
        transport = MPITransport(base, base.Get_name(), duplicate=True)
        super().__init__(Protocol(transport, timeout=check_timeout(timeout)))
