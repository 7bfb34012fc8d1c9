"""Messages over one MPI communicator, all of them waited for in the same way."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn._core.message import FirstMessage, PlannedMessage
from syncbn.comm import departure
from syncbn.comm.board import Board
from syncbn.comm.call import NumberedCall, Signature, Transfer
from syncbn.comm.errors import SyncLostRankError
from syncbn.comm.library import import_mpi
from syncbn.comm.planned import PlannedMessages
from syncbn.comm.watch import Watch

_MAKING: Signature = Transfer("making the communicator")


class Channel:
    """The collectives of one MPI communicator that belongs to nobody else.

    Collective, and so are its methods but `close`.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
    name : str
    timeout : float or None
        Seconds that a message may wait for other ranks.
    duplicate : bool
        Whether to take a duplicate of ``comm`` instead of itself.

    Attributes
    ----------
    first : FirstMessage
        To be written before `exchange_first` and read after it.
    planned : dict of str to PlannedMessages
        By name of the operation.
    unfinished : bool
        Whether a call has begun that has not come to its last message.
    closed : str
        Why there can't be any further message; "" while there can.
    """

    def __init__(self, comm: Any, name: str, timeout: float | None, *, duplicate: bool) -> None:
        self.mpi: Any = import_mpi()
        self.timeout = timeout
        self._number, self._call = 0, _MAKING
        self.closed = ""
        self.unfinished = False
        with departure.making() if comm.Get_size() > 1 else nullcontext():
            self.board = Board(comm.Get_rank(), comm.Get_size(), name)
            if duplicate:
                self._comm, request = comm.Idup()
                self._wait(lambda: request)
            else:
                self._comm = comm
            self._meet()
        self.first = FirstMessage()
        self._first = self._plan(self.first.buffer, "MAX")
        self.planned = {op: PlannedMessages(partial(self._plan, op=op)) for op in ("MAX", "SUM")}

    def _plan(self, buffer: NDArray[Any], op: str) -> Any:
        return PlannedMessage(buffer, self._comm, self.mpi.IN_PLACE, getattr(self.mpi, op))

    def _meet(self) -> None:
        """Find the seats of the other ranks."""
        place = np.array(self.board.place, np.int64)
        places = np.empty((self.board.size, place.size), np.int64)
        self._wait(self._comm.Iallgather, place, places)
        for rank, other in enumerate(places.tolist()):
            self.board.seat(rank, tuple(other))
        if self.board.size > 1:
            departure.watch(self.board)

    def exchange_first(self, number: int, call: Signature) -> None:
        """Begin ``call``: combine what was written to ``first`` over ranks."""
        self._number, self._call = number, call
        self.unfinished = True
        self.board.enter()
        self._wait(self._first.send)

    def combine(self, array: NDArray[Any], op: str) -> None:
        """Combine ``array`` over ranks, in place; all ranks must have agreed on its size and dtype.

        Whether a message is planned is told by these alone, so all ranks do the same.
        """
        message = self.planned[op].get(array.size, array.dtype)
        if message is None:
            self.allreduce(array, op)
        elif array is message.buffer:
            self._wait(message.send)
        else:
            message.buffer[...] = array.reshape(-1)
            self._wait(message.send)
            array[...] = message.buffer.reshape(array.shape)

    def allreduce(self, array: NDArray[Any], op: str) -> None:
        """Combine ``array`` over ranks, in place."""
        self._wait(self._comm.Iallreduce, self.mpi.IN_PLACE, array, getattr(self.mpi, op))

    def broadcast(self, array: NDArray[Any], root: int) -> None:
        """Copy the ``array`` of ``root`` to all ranks, in place."""
        self._wait(self._comm.Ibcast, array, root)

    def allgather(self, content: bytes) -> list[bytes]:
        """Return the bytes of all ranks."""
        own = np.frombuffer(content, np.uint8)
        size = np.array([own.size], np.int64)
        sizes = np.empty(self.board.size, np.int64)
        self._wait(self._comm.Iallgather, size, sizes)
        everything = np.empty(int(sizes.sum()), np.uint8)
        self._wait(self._comm.Iallgatherv, own, [everything, sizes.tolist()])
        return [part.tobytes() for part in np.split(everything, np.cumsum(sizes)[:-1])]

    def split(self, color: int, name: str) -> Channel:
        """Return the channel of the ranks with the same ``color``; all ranks must be known to be here."""
        return Channel(self._comm.Split(color, self.board.rank), name, self.timeout, duplicate=False)

    def free(self) -> None:
        """Give the communicator back; all ranks must be known to be here."""
        self.closed = "the communicator was freed: make a new MPIComm"
        departure.forget(self.board)
        self.board.free()
        self._first.free()
        for planned in self.planned.values():
            planned.free()
        self._comm.Free()

    def close(self, error: type[BaseException], where: str = "") -> None:
        """End it for this rank alone, after an error; ranks that wait for it will see that."""
        self.closed = f"the communicator was closed by {error.__name__}{where}"
        self.board.close(followed=issubclass(error, SyncLostRankError))

    def close_broken_off(self) -> None:
        """End it for this rank alone where an exception such as Ctrl-C has left a call between its messages."""
        self.closed = f"the communicator was closed: an exception broke off {NumberedCall(self._number, self._call)}"
        self.board.close(followed=False)

    def _close_for(self, error: BaseException) -> None:
        self.close(type(error), f" in {NumberedCall(self._number, self._call)}")

    def _wait(self, send: Callable[..., Any], *arguments: Any) -> None:
        """Send, and wait for the request; give up where it can't come to its end, and close the channel.

        A waiting rank gives its core away at each test, since ranks may share cores.
        """
        request = watch = None
        try:
            request = send(*arguments)
            if request is None:  # at its end already
                return
            watch = Watch(self.board, NumberedCall(self._number, self._call), self.timeout)
            while not request.Test():
                watch.look()
                os.sched_yield()
        except BaseException as error:  # KeyboardInterrupt too: the others have sent theirs, and this may be on its way
            departure.abandon(request, send, arguments)
            self._close_for(error)
            raise
        finally:
            if watch is not None:
                watch.end()
