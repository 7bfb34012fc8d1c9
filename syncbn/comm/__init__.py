"""Communicators: one process, or the ranks of an MPI communicator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

from syncbn.comm.call import Call, Direction, Exchange, Signature, Transfer, call_of
from syncbn.comm.communicator import Communicator
from syncbn.comm.errors import SyncError, SyncLostRankError, SyncMismatchError, SyncTimeoutError
from syncbn.comm.mpi import MPIComm
from syncbn.comm.serial import SERIAL, SerialComm
from syncbn.comm.wrapped import world, wrap

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
    "Call",
    "CommLike",
    "Communicator",
    "Direction",
    "Exchange",
    "MPIComm",
    "SerialComm",
    "Signature",
    "SyncError",
    "SyncLostRankError",
    "SyncMismatchError",
    "SyncTimeoutError",
    "Transfer",
    "as_communicator",
    "call_of",
    "world",
]
