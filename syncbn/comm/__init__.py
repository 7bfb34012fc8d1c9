"""Communicators: one process, or the ranks of an MPI communicator.

How the files depend on each other, from the public interface down::

    serial, mpi, cache   SerialComm, MPIComm, and one MPIComm for each mpi4py communicator
    communicator         the public methods: check the arguments, then one call of the protocol
    protocol             a call: the handshake (signature), its messages, and what follows an error (errors)
    liveness             what a rank that waits knows of the other ranks
    transport            the operations that the protocol needs of a message-passing library; MPI's in mpi_transport

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
    """Return the syncbn communicator that ``comm`` stands for; None is this process alone.

    Collective at the first call with an mpi4py communicator.
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
