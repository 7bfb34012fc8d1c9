"""The protocol of collective calls over a transport."""

from __future__ import annotations

import os
import pickle
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import count
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from syncbn._core.kernels import compiled
from syncbn.comm.advice import on_mismatch
from syncbn.comm.errors import (
    SyncError,
    SyncLostRankError,
    SyncMismatchError,
    is_raised_by_all,
    mark_raised_by_all,
    mark_repeated,
)
from syncbn.comm.liveness import POLL_SECONDS, RankTable, Watch, constructing, keep_until_exit
from syncbn.comm.signature import CONSTRUCTION, CollectiveSignature, Signatures
from syncbn.comm.transport import Op, Transport, Types
from syncbn.pitfalls import see

_compiled: Any = compiled("protocol")

HANDSHAKE_BYTES: int = _compiled.HANDSHAKE_BYTES
CAPACITY: int = _compiled.CAPACITY
"""Maximum number of float64 values of a max_buffer that is part of the handshake."""

_FREED = f". Make a new MPIComm on all ranks, and layers with it{see('closed-communicators')}"
_BROKEN = (
    ". Start the job again from the last checkpoint, or, if all ranks still run, make a new MPIComm on all, and "
    f"layers with it{see('closed-communicators')}"
)

_identities = count()

_numbers: defaultdict[tuple[int, ...], Iterator[int]] = defaultdict(count)
"""Numbers of the communicators of each group of processes. The ranks of a group make them in the same order."""

_dropped: defaultdict[tuple[int, ...], dict[int, Protocol]] = defaultdict(dict)
"""The communicators that were dropped without `Protocol.free`, by group and number. To free one is collective."""


_protocols: WeakSet[Protocol] = WeakSet()
"""Those of several ranks."""


def _close_in_a_fork() -> None:
    for protocol in _protocols:
        protocol.closed = (
            f"this process is a fork of rank {protocol.rank}, and cannot make its calls: make them in the rank itself, "
            f"and start processes by multiprocessing.get_context('spawn'){see('forks')}"
        )


os.register_at_fork(after_in_child=_close_in_a_fork)


class Protocol(_compiled.ProtocolCore, Signatures):  # type: ignore[misc]  # compiled classes have no types
    """The calls of one communicator, each of which consists of a handshake and the messages of its operation.

    Collective. Its methods are collective too, except those marked ``Not collective.``. Only one thread may use it at a
    time.

    Parameters
    ----------
    transport : Transport
        Transport that is used by this protocol only.
    timeout : float, optional
        Maximum time in seconds that a call waits for other ranks.
    """

    closed: str
    rank: int
    sequence_number: int
    size: int
    timeout: float | None
    transport: Transport
    unfinished: bool

    def __init__(self, transport: Transport, *, timeout: float | None = None) -> None:
        self.freed: bool = False
        self._raised = ""
        self._identity = next(_identities)
        with constructing() if transport.size > 1 else nullcontext():
            self._table = RankTable(transport.rank, transport.size, transport.name, transport.members)
            super().__init__(transport, self._table.calls, POLL_SECONDS)
            self.signature = CONSTRUCTION
            self.timeout = timeout
            self.run(transport.open)
            address = np.array(self._table.address, np.int64)
            addresses = self._allgather(address.view(np.uint8), [address.nbytes] * self.size).view(address.dtype)
            self._table.connect(addresses.reshape(self.size, -1).tolist())
            self._free_dropped()
        if transport.size > 1:
            _protocols.add(self)
        if transport.members:
            self._number = next(_numbers[tuple(transport.members)])

    @property
    def types(self) -> Types:
        """Types of the arrays that the transport can send."""
        return self.transport.types

    def __del__(self, dropped: dict[tuple[int, ...], dict[int, Protocol]] = _dropped) -> None:
        """Keep a communicator that was dropped without `free` until all ranks have dropped theirs.

        ``dropped`` is an argument because the names of the module are gone at the end of the interpreter.
        """
        if hasattr(self, "_number") and not (self.closed or self.unfinished):
            dropped[tuple(self.transport.members)][self._number] = self

    def _free_dropped(self) -> None:
        """Free the communicators of this group that all ranks have dropped."""
        dropped = _dropped[tuple(self.transport.members)]
        numbers = np.array(sorted(dropped), np.int64)
        of_ranks = [set(np.frombuffer(theirs, np.int64).tolist()) for theirs in self._gather(numbers.tobytes())]
        for number in sorted(set.intersection(*of_ranks)):
            dropped.pop(number).free()

    def enter_thread(self, thread: int) -> None:
        """Record a change of the calling thread; raise RuntimeError if the earlier thread is still in a call."""
        others = {other.ident for other in threading.enumerate()} - {thread}
        if self.unfinished and not self.closed and self._table.thread in others:
            raise RuntimeError(
                f"two threads use one communicator at once: another thread is in {self._call}. Make all "
                f"collective calls in one thread{see('threads-and-communicators')}"
            )
        self.thread = self._table.thread = thread

    def share_error(self, signature: CollectiveSignature, error: Exception) -> None:
        """Report an error that this rank is about to raise, so that all other ranks raise `SyncMismatchError`.

        Nothing is sent if all ranks have raised that error already. If the report fails with a `SyncError`, that
        becomes the ``__context__`` of ``error``, which this rank still raises.
        """
        if self.is_used_elsewhere() or self.closed or is_raised_by_all(error, self._identity, self._calls):
            return
        if self.unfinished:
            self.close_broken_off()
            return
        self._raised = f"{type(error).__name__}: {_text_of(error)}"
        try:
            self.handshake(signature, error=error)
        except SyncError as lost:
            lost.__context__, error.__context__ = error.__context__, lost
        finally:
            self._raised = ""

    def explain_mismatch(self, forward: int, error: Exception | None) -> None:
        """Raise `SyncMismatchError` after a handshake failed on all ranks; return if this rank raises ``error``."""
        number, signature = self.sequence_number, self.signature
        report = pickle.dumps((number, signature, forward, None if error is None else _described(error)))
        reports = [pickle.loads(theirs) for theirs in self._gather(report)]
        self.sequence_number, self.unfinished = 0, False
        if error is None:
            mine = (number, signature, forward, None)
            lines = [line for rank, theirs in enumerate(reports) if (line := _difference(rank, theirs, mine))]
            what = "; ".join(lines) or "the handshakes differ"
            errors = {rank: raised[1] for rank, (*_, raised) in enumerate(reports) if raised is not None}
            advice = (
                see("errors-of-other-ranks") if errors else f". {on_mismatch([theirs for _, theirs, *_ in reports])}"
            )
            mismatch = SyncMismatchError(f"rank {self.rank} at call {number}: {signature}; but {what}{advice}")
            mismatch.errors = errors
            mark_raised_by_all(mismatch, self._identity, self._calls)
            raise mismatch
        mark_raised_by_all(error, self._identity, self._calls)
        if self.rank and all(raised is not None for *_, raised in reports):
            mark_repeated(error)

    def allreduce(self, array: NDArray[Any], op: Op) -> None:
        """Combine an array over ranks, in place, as the last message of a call."""
        self._finish(array.nbytes, self.transport.allreduce, array, op)

    def broadcast(self, array: NDArray[Any], root: int) -> None:
        """Copy the array of ``root`` to the arrays of all ranks, as the last message of a call."""
        self._finish(array.nbytes, self.transport.broadcast, array, root)

    def allgather(self, content: bytes) -> list[bytes]:
        """Return the bytes of all ranks, as the last messages of a call."""
        self.bytes_sent += len(content)
        contents = self._gather(content)
        self.unfinished = False
        return contents

    def split(self, group_size: int) -> Protocol:
        """Return the protocol of this rank's group of consecutive ranks, as the last messages of a call."""
        group = self.rank // group_size
        first, last = group * group_size, min((group + 1) * group_size, self.size) - 1
        name = f"ranks {first} to {last} of {self.transport.name}"
        try:
            return Protocol(self.transport.split(group, name), timeout=self.timeout)
        finally:  # all ranks have entered the split; an error above belongs to the group
            self.unfinished = False

    def free(self) -> None:
        """Free the resources of the communicator, unless it is closed. Call it on all ranks, after a handshake."""
        if self.unfinished and not self.closed:
            self.close_broken_off()
        if not self.closed:
            self.closed = f"the communicator was freed{_FREED}"
            self.freed = True
            self.free_persistent()
            self._table.free()
            self.transport.free()

    def close(self, error: type[BaseException], where: str = "") -> None:
        """Close the communicator on this rank after an error, which waiting ranks detect. Not collective."""
        if not self.closed:
            self.closed = f"the communicator was closed by {error.__name__}{where}{_BROKEN}"
            self._table.close(cascading=issubclass(error, SyncLostRankError))

    def close_broken_off(self) -> None:
        """Close the communicator after an exception such as Ctrl-C has interrupted a call between two messages."""
        self.closed = f"the communicator was closed: an exception interrupted {self._call}{_BROKEN}"
        self._table.close(cascading=False)

    def break_off(self, error: BaseException, pending: object) -> None:
        """Close the communicator after an error while an operation is pending. Not collective."""
        keep_until_exit((self, pending))
        self.close(type(error), f" in {self._call}")

    def watch(self, start: float) -> Watch:
        """Return the liveness checks of a long wait, which began at ``start``."""
        return Watch(self._table, self.signature, self.sequence_number, self.timeout, start, self._raised)

    @property
    def _call(self) -> str:
        return f"call {self.sequence_number}, {self.signature}"

    @property
    def _calls(self) -> int:
        return int(self.calls[0])

    def _finish(self, nbytes: int, start: Callable[..., Any], *arguments: Any) -> None:
        self.bytes_sent += nbytes
        self.run(start, *arguments)
        self.unfinished = False

    def _gather(self, content: bytes) -> list[bytes]:
        size = np.array([len(content)], np.int64)
        sizes = self._allgather(size.view(np.uint8), [size.nbytes] * self.size).view(size.dtype).tolist()
        gathered = self._allgather(np.frombuffer(content, np.uint8), sizes)
        return [part.tobytes() for part in np.split(gathered, np.cumsum(sizes)[:-1])]

    def _allgather(self, own: NDArray[np.uint8], sizes: list[int]) -> NDArray[np.uint8]:
        gathered = np.empty(sum(sizes), np.uint8)
        self.run(self.transport.allgather, own, gathered, sizes)
        return gathered


_Report = tuple[int, CollectiveSignature, int, tuple[str, str] | None]
"""Sequence number, call, number of the forward of a backward; class and text of an error, None without an error."""


def _difference(rank: int, theirs: _Report, mine: _Report) -> str:
    """Describe how the call of another rank differs from the call of this rank; "" if they are equal."""
    (number, signature, forward, raised), (own_number, own_signature, own_forward, _) = theirs, mine
    if raised is not None:
        kind, text = raised
        return f"rank {rank} " + (f"had bad input: {text}" if kind in _OF_INPUT else f"raised {kind}: {text}")
    if number != own_number:
        return f"rank {rank} was at call {number}, {signature}"
    if differences := signature.differences(own_signature):
        return f"rank {rank} called {', '.join(differences)}"
    if forward != own_forward:
        return f"rank {rank} called the backward of call {forward} against that of call {own_forward}"
    return ""


_OF_INPUT = (ValueError.__name__, TypeError.__name__)
"""Names of the classes of errors that invalid arguments raise."""


def _described(error: Exception) -> tuple[str, str]:
    return type(error).__name__, _text_of(error)


def _text_of(error: Exception) -> str:
    """Return the text of an error, or the name of its class where the text is empty or raises an error itself."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__
