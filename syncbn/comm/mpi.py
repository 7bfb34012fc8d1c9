"""Ranks of an MPI communicator. The only module that imports mpi4py, and only when asked for one."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from syncbn.comm.call import Call
from syncbn.comm.communicator import Communicator, Op
from syncbn.comm.errors import SyncMismatchError, SyncTimeoutError
from syncbn.comm.message import FirstMessage

if TYPE_CHECKING:
    from types import ModuleType

    from mpi4py import MPI

T = TypeVar("T")

_MISSING = (
    "synchronizing over MPI needs mpi4py and an MPI library: pip install 'syncbn[mpi]' brings both "
    "(without the mpich wheel where the cluster has its own MPI). For one process alone, pass "
    "comm=syncbn.SerialComm() or use BatchNorm."
)


def import_mpi() -> ModuleType:
    """Import and return ``mpi4py.MPI`` (this initializes MPI), or say what is missing."""
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(_MISSING) from error
    return MPI


class MPIComm(Communicator):
    """The ranks of an MPI communicator, on a duplicate of it, so that no message meets the caller's own.

    Collective.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, optional
        Default: ``MPI.COMM_WORLD``.
    timeout : float, optional
        Seconds that a call may wait for the other ranks before `SyncTimeoutError`. Default: for ever.

    Raises
    ------
    ImportError
        mpi4py or the MPI library is not there.
    TypeError
        ``comm`` is not an mpi4py intracommunicator.
    """

    def __init__(self, comm: MPI.Intracomm | None = None, *, timeout: float | None = None) -> None:
        super().__init__()
        self._mpi: Any = import_mpi()
        base = self._mpi.COMM_WORLD if comm is None else comm
        if not isinstance(base, self._mpi.Intracomm):
            raise TypeError(f"comm must be an mpi4py intracommunicator, got {type(base).__name__}")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be positive seconds or None, got {timeout}")
        own = base.Dup()
        self._own(own, timeout, blocking=timeout is None and not _oversubscribed(self._mpi, own))

    def _own(self, comm: Any, timeout: float | None, *, blocking: bool) -> None:
        self._comm: Any = comm
        self.timeout = timeout
        self.rank = comm.Get_rank()
        self.size = comm.Get_size()
        self._number = 0
        self._closed = ""
        self._blocking = blocking

    def agree(self, call: Call, maxima: NDArray[np.int16], error: Exception | None = None) -> int:
        """Check that all ranks make the same call, and combine ``maxima`` over ranks by MAX, in place. Collective."""
        self._number += 1
        message = FirstMessage(call.words(self._number), maxima, failed=error is not None)
        self._allreduce(message.buffer, self._mpi.MAX, call)
        if not message.agrees():
            self._raise_mismatch(call, error)
        if message.holds_maxima:
            message.read_maxima()
        else:
            self._allreduce(maxima, self._mpi.MAX, call)
        return self._number

    def _raise_mismatch(self, call: Call, error: Exception | None) -> None:
        """Raise on every rank. All of them are here: each saw from the sums that the headers differ."""
        reports: list[tuple[int, Call, str]] = self.allgather((self._number, call, str(error or "")))
        number, self._number = self._number, 0
        if error is not None:
            raise error
        lines = []
        for rank, (other_number, other, text) in enumerate(reports):
            if text:
                lines.append(f"rank {rank} had bad input: {text}")
            elif other_number != number:
                lines.append(f"rank {rank} was at call {other_number}, {other}")
            elif differences := other.differences(call):
                lines.append(f"rank {rank} called {', '.join(differences)}")
        raise SyncMismatchError(f"rank {self.rank} at call {number}: {call}; but " + "; ".join(lines))

    def allreduce(self, array: NDArray[Any], op: Op = "sum") -> None:
        """Combine ``array`` (contiguous, same shape and dtype on all ranks) over ranks, in place. Collective."""
        ops = {"sum": self._mpi.SUM, "min": self._mpi.MIN, "max": self._mpi.MAX}
        self._allreduce(array, ops[op], f"allreduce of {array.size} {array.dtype}")

    def broadcast(self, array: NDArray[Any], root: int = 0) -> None:
        """Copy ``array`` (contiguous) of rank ``root`` to all ranks, in place. Collective."""
        self.bytes_sent += array.nbytes
        self._wait(self._open().Ibcast(array, root), f"broadcast of {array.size} {array.dtype}", array)

    def allgather(self, value: T) -> list[T]:
        """Return the values (any picklable object) of all ranks, in rank order. Collective."""
        return list(self._open().allgather(value))

    def barrier(self) -> None:
        """Wait until all ranks are here. Collective."""
        self._wait(self._open().Ibarrier(), "barrier")

    def split(self, group_size: int) -> MPIComm:
        """Return the communicator of this rank's group of ``group_size`` consecutive ranks.

        Collective. The last group is smaller where ``group_size`` does not divide ``size``.
        """
        if group_size < 1:
            raise ValueError(f"group_size must be at least 1, got {group_size}")
        group = MPIComm.__new__(MPIComm)
        Communicator.__init__(group)
        group._mpi = self._mpi
        group._own(self._open().Split(self.rank // group_size, self.rank), self.timeout, blocking=self._blocking)
        return group

    def free(self) -> None:
        """Free the duplicate; further calls raise ValueError. Collective."""
        if not self._closed:
            self._comm.Free()
            self._closed = "the communicator was freed"

    def _open(self) -> Any:
        if self._closed:
            raise ValueError(f"{self._closed}: make a new MPIComm")
        return self._comm

    def _allreduce(self, array: NDArray[Any], op: Any, what: object) -> None:
        comm = self._open()
        self.bytes_sent += array.nbytes
        if self._blocking:
            comm.Allreduce(self._mpi.IN_PLACE, array, op)
        else:
            self._wait(comm.Iallreduce(self._mpi.IN_PLACE, array, op), what, array)

    def _wait(self, request: Any, what: object, buffer: Any = None) -> None:
        """Wait for ``request``, at most ``timeout`` seconds, leaving the core to ranks that share it."""
        if self._blocking:
            request.Wait()
            return
        deadline = math.inf if self.timeout is None else time.monotonic() + self.timeout
        while not request.Test():
            if time.monotonic() > deadline:
                _abandoned.append((request, buffer))
                self._closed = f"the communicator was closed by a timeout in call {self._number}, {what}"
                raise SyncTimeoutError(
                    f"rank {self.rank} of {self.size} waited more than {self.timeout:g} s in call "
                    f"{self._number}, {what}: another rank is late, absent or in another call"
                )
            os.sched_yield()


def _oversubscribed(mpi: Any, comm: Any) -> bool:
    """Tell whether this node has more ranks of ``comm`` than cores. Collective.

    MPI waits by spinning: a rank that waits then keeps a core from the rank that it waits for.
    """
    node = comm.Split_type(mpi.COMM_TYPE_SHARED)
    cores = set().union(*node.allgather(_own_cores()))  # each rank may be bound to its own
    ranks: int = node.Get_size()
    node.Free()
    return ranks > len(cores)


def _own_cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def world() -> MPIComm:
    """Return the one wrapper of ``MPI.COMM_WORLD``. Collective at its first call."""
    return wrap(import_mpi().COMM_WORLD)


_abandoned: list[tuple[Any, Any]] = []
"""Requests that timed out, and their buffers, kept for good: a collective can't be cancelled, MPI may
still write into the buffer, and mpi4py's request does not keep it alive."""

_keyval: int | None = None


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
    wrapper = comm.Get_attr(_keyval)
    if wrapper is None:
        wrapper = MPIComm(comm)
        comm.Set_attr(_keyval, wrapper)
    assert isinstance(wrapper, MPIComm)
    return wrapper
