"""Ranks of an MPI communicator."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from syncbn._core import message
from syncbn._core.checks import check_integer
from syncbn._core.message import NOTHING
from syncbn.comm.call import Exchange, Signature, Transfer
from syncbn.comm.channel import Channel
from syncbn.comm.communicator import Communicator, Op
from syncbn.comm.errors import SyncMismatchError
from syncbn.comm.library import import_mpi

if TYPE_CHECKING:
    from mpi4py import MPI

T = TypeVar("T")

OPS: dict[Op, str] = {"sum": "SUM", "min": "MIN", "max": "MAX"}

_FLOAT64 = NOTHING.dtype


class MPIComm(Communicator):
    """The ranks of an MPI communicator, on a duplicate of it, so that no message meets the caller's own.

    Collective. A process makes one call at a time.

    Every collective begins with the same message, so ranks in different calls all see that. A rank
    that can't come (it has ended, died, closed the communicator, or waits for this one in another
    communicator) is noticed within a second on the same node; elsewhere only ``timeout`` helps.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, optional
        Default: ``MPI.COMM_WORLD``.
    timeout : float, optional
        Seconds that a call may wait for the other ranks before `SyncTimeoutError`. Default: for ever.

    Attributes
    ----------
    freed : bool
        Whether `free` was called.

    Raises
    ------
    ImportError
        mpi4py or the MPI library is not there.
    TypeError
        ``comm`` is not an mpi4py intracommunicator.
    """

    def __init__(self, comm: MPI.Intracomm | None = None, *, timeout: float | None = None) -> None:
        super().__init__()
        mpi: Any = import_mpi()
        base = mpi.COMM_WORLD if comm is None else comm
        if not isinstance(base, mpi.Intracomm):
            raise TypeError(f"comm must be an mpi4py intracommunicator, got {type(base).__name__}")
        self._take(Channel(base, base.Get_name(), _seconds(timeout), duplicate=True))

    def _take(self, channel: Channel) -> None:
        self._channel = channel
        self.rank, self.size = channel.board.rank, channel.board.size
        self.freed = False
        self._number = 0

    @property
    def timeout(self) -> float | None:
        """Seconds that a call may wait for other ranks; None is for ever."""
        return self._channel.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._channel.timeout = _seconds(seconds)

    def agree(
        self,
        call: Signature,
        maxima: NDArray[np.float64] = NOTHING,
        error: Exception | None = None,
        forward_number: int = 0,
    ) -> int:
        """Check that all ranks make the same call, and combine ``maxima`` over ranks by MAX, in place.

        Collective.
        """
        channel = self._open()
        if channel.unfinished:
            channel.close_broken_off()
            raise ValueError(channel.closed) if error is None else error
        self._number = number = self._number + 1
        first = channel.first
        fits = first.write(call.digest, number, forward_number, error is not None, maxima)
        self.bytes_sent += message.NBYTES
        channel.exchange_first(number, call)
        if not first.agrees():
            self._raise_mismatch(call, forward_number, error)
        if fits:
            first.read(maxima)
        else:
            self._combine(maxima, "MAX")
        channel.unfinished = call.followed
        return number

    def maxima(self, size: int) -> NDArray[np.float64]:
        """Return memory that `agree` combines without a copy, for one call.

        Not collective.
        """
        channel = self._open()
        room = channel.first.room(size)
        return channel.planned["MAX"].lend(size, _FLOAT64) if room is None else room

    def summands(self, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return memory that `allreduce_agreed` sums without a copy, for one call.

        Not collective.
        """
        return self._open().planned["SUM"].lend(size, dtype)

    def _raise_mismatch(self, call: Signature, forward_number: int, error: Exception | None) -> NoReturn:
        """Raise on every rank. All of them are here: each saw from the first message that they differ."""
        report = pickle.dumps((self._number, call, forward_number, None if error is None else _described(error)))
        reports: list[tuple[int, Signature, int, str | None]] = list(map(pickle.loads, self._channel.allgather(report)))
        number, self._number = self._number, 0
        self._channel.unfinished = False
        if error is not None:
            raise error
        lines = []
        for rank, (other_number, other, other_forward, text) in enumerate(reports):
            if text is not None:
                lines.append(f"rank {rank} had bad input: {text}")
            elif other_number != number:
                lines.append(f"rank {rank} was at call {other_number}, {other}")
            elif differences := other.differences(call):
                lines.append(f"rank {rank} called {', '.join(differences)}")
            elif other_forward != forward_number:
                lines.append(
                    f"rank {rank} called the backward of call {other_forward} against that of call {forward_number}"
                )
        what = "; ".join(lines) or "the ranks' headers differ"
        raise SyncMismatchError(f"rank {self.rank} at call {number}: {call}; but {what}")

    def allreduce(self, array: NDArray[Any], op: Op = "sum") -> None:
        """Combine ``array`` (contiguous, same shape and dtype on all ranks) over ranks, in place. Collective."""
        self._agree_on_array("allreduce", array, f"op={op!r}", _wrong_choice("op", op, OPS), op)
        channel = self._open()
        self.bytes_sent += array.nbytes
        channel.allreduce(array, OPS[op])
        channel.unfinished = False

    def allreduce_agreed(self, array: NDArray[Any]) -> None:
        """Sum ``array`` over ranks, in place: the second message of the call just agreed on. Collective."""
        self._combine(array, "SUM")
        self._channel.unfinished = False

    def _combine(self, array: NDArray[Any], op: str) -> None:
        """Combine an array that all ranks have agreed on."""
        channel = self._open()
        self.bytes_sent += array.nbytes
        channel.combine(array, op)

    def broadcast(self, array: NDArray[Any], root: int = 0) -> None:
        """Copy ``array`` (contiguous) of rank ``root`` to all ranks, in place. Collective."""
        wrong = _wrong_choice("root", root, range(self.size))
        root = root if wrong else int(root)
        self._agree_on_array("broadcast", array, f"root={root!r}", wrong)
        self.bytes_sent += array.nbytes
        self._channel.broadcast(array, root)
        self._channel.unfinished = False

    def _agree_on_array(
        self, operation: str, array: NDArray[Any], detail: str, error: Exception | None, op: Op | None = None
    ) -> None:
        error = error or _unfit(array, op)
        size, dtype = (0, "") if error else (array.size, str(array.dtype))
        self.agree(Exchange(operation, size, dtype, detail), error=error)

    def allgather(self, value: T) -> list[T]:
        """Return the values (any picklable object) of all ranks, in rank order. Collective."""
        content, failure = b"", None
        try:
            content = pickle.dumps(value)
        except Exception as error:  # whatever an object raises that can't be pickled
            failure = error
        self.agree(Exchange("allgather"), error=failure)
        self.bytes_sent += len(content)
        contents = self._channel.allgather(content)
        self._channel.unfinished = False
        return list(map(pickle.loads, contents))

    def barrier(self) -> None:
        """Wait until all ranks are here. Collective."""
        self.agree(Transfer("barrier"))

    def split(self, group_size: int) -> MPIComm:
        """Return the communicator of this rank's group of ``group_size`` consecutive ranks.

        Collective. The last group is smaller where ``group_size`` does not divide ``size``.
        """
        with self.preparing(Transfer("split", detail="group_size")):
            group_size = check_integer("group_size", group_size)
        self.agree(Exchange("split", detail=f"group_size={group_size}"))
        color = self.rank // group_size
        first, last = color * group_size, min((color + 1) * group_size, self.size) - 1
        group = MPIComm.__new__(MPIComm)
        Communicator.__init__(group)
        try:
            group._take(self._channel.split(color, f"ranks {first} to {last} of {self._channel.board.name}"))
        finally:  # what fails there fails the group, and all ranks have been here
            self._channel.unfinished = False
        return group

    def free(self) -> None:
        """Free the duplicate; further calls raise ValueError. Collective."""
        if not (self._channel.closed or self._channel.unfinished):
            self.agree(Transfer("free"))
        self.release()

    def release(self) -> None:
        """Free the duplicate where all ranks are known to do so, or close it after a broken off call. Collective."""
        if self._channel.unfinished:
            self._channel.close_broken_off()
        if not self._channel.closed:
            self._channel.free()
            self.freed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Free the communicator; after an exception, without waiting for the other ranks."""
        if kind is None:
            self.free()
        elif not self._channel.closed:
            self._channel.close(kind)

    def _open(self) -> Channel:
        if self._channel.closed:
            raise ValueError(self._channel.closed)
        return self._channel


def _seconds(timeout: float | None) -> float | None:
    if timeout is None or (isinstance(timeout, (int, float, np.integer, np.floating)) and timeout > 0):
        return timeout
    raise ValueError(f"timeout must be positive seconds or None, got {timeout!r}")


def _described(error: Exception) -> str:
    """Return an error's text, or its name where it has none, or none that can be had."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__


def _wrong_choice(name: str, value: object, choices: Collection[object]) -> ValueError | None:
    if isinstance(value, (str, int, np.integer)) and value in choices:
        return None
    return ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def _unfit(array: object, op: Op | None) -> Exception | None:
    """Return what is wrong with an array that is to be sent from and received into, or combined by ``op``, or None."""
    if not isinstance(array, np.ndarray):
        return TypeError(f"expected an array, got {type(array).__name__}")
    if array.dtype.kind not in "biufc" or array.dtype == np.float16 or not array.dtype.isnative:
        return TypeError(f"MPI has no type for {array.dtype}: convert the array first")
    if op and array.dtype.kind not in ("iufc" if op == "sum" else "iuf"):
        return TypeError(f"MPI has no {op} of {array.dtype}: convert the array first")
    if not array.flags.c_contiguous or not array.flags.writeable:
        return ValueError(f"expected a contiguous writable array, got one of shape {array.shape} that is not")
    return None
