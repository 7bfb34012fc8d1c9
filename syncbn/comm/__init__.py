"""Communicators of one process and of the ranks of MPI.

Files, from the public interface downwards::

    serial, mpi, cache   SerialComm, MPIComm, and one MPIComm for each mpi4py communicator
    collective           the decorator of collective functions, whose errors all ranks raise
    communicator         the public methods: check the arguments, then make one call of the protocol
    protocol             a call: the handshake (signature), the messages, and the treatment of errors (errors)
    liveness             failure detection: the state of the ranks for which a rank waits
    transport            the operations that the protocol needs of a message-passing library; mpi_transport is MPI

The handshake, the sum and the wait are compiled (ext/protocol.pyx).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

from syncbn.comm.cache import world, wrap
from syncbn.comm.communicator import Communicator
from syncbn.comm.errors import SyncError, SyncLostRankError, SyncMismatchError, SyncTimeoutError
from syncbn.comm.mpi import MPIComm
from syncbn.comm.serial import SERIAL, SerialComm
from syncbn.comm.signature import CollectiveSignature

if TYPE_CHECKING:
    from mpi4py import MPI

CommLike = Union[Communicator, "MPI.Intracomm", None]
"""None (this process alone), a syncbn communicator or an mpi4py communicator."""


def as_communicator(comm: CommLike) -> Communicator:
    """Return the syncbn communicator for ``comm``; None is this process alone.

    Collective at the first call with an mpi4py communicator.

    See Also
    --------
    syncbn.MPIComm : The ranks of MPI.
    syncbn.SerialComm : One process.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from syncbn.comm import as_communicator
    >>> as_communicator(None)  # this process alone
    SerialComm(rank 0 of 1)
    >>> as_communicator(MPI.COMM_WORLD) is as_communicator(MPI.COMM_WORLD)
    True
    """
    if comm is None:
        return SERIAL
    if isinstance(comm, Communicator):
        return comm
    return wrap(comm)


__all__ = [
    "SERIAL",
    "CollectiveSignature",
    "CommLike",
    "Communicator",
    "MPIComm",
    "SerialComm",
    "SyncError",
    "SyncLostRankError",
    "SyncMismatchError",
    "SyncTimeoutError",
    "as_communicator",
    "world",
]
