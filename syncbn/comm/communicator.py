"""What every communicator offers, on one rank or on many."""

from __future__ import annotations

import pickle
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from numpy.typing import NDArray

from syncbn._core.checks import check_integer
from syncbn.comm.arguments import array_signature, check_array, check_choice, check_timeout
from syncbn.comm.signature import CollectiveSignature
from syncbn.comm.transport import OPS, Op

if TYPE_CHECKING:
    from syncbn.comm.protocol import Protocol
    from syncbn.comm.serial import SerialProtocol

T = TypeVar("T")
CommunicatorT = TypeVar("CommunicatorT", bound="Communicator")

_ALLREDUCE, _BROADCAST, _SPLIT = map(CollectiveSignature, ("allreduce", "broadcast", "split"))
_ALLGATHER = CollectiveSignature("allgather", has_data=True)
_BARRIER, _FREE = map(CollectiveSignature, ("barrier", "free"))


class Communicator:
    """A group of ranks. Every method marked ``Collective.`` must be called by all of them.

    Parameters
    ----------
    protocol : Protocol
    """

    def __init__(self, protocol: Protocol | SerialProtocol) -> None:
        self._protocol = protocol

    @property
    def _distributed(self) -> Any:
        """The protocol of several ranks, as plans take it; None for one process."""
        return self._protocol

    @property
    def rank(self) -> int:
        """The number of this process in the group."""
        return self._protocol.rank

    @property
    def size(self) -> int:
        """The number of ranks."""
        return self._protocol.size

    @property
    def bytes_sent(self) -> int:
        """Bytes that this rank has passed to collectives so far."""
        return self._protocol.bytes_sent

    @property
    def timeout(self) -> float | None:
        """Seconds that a call may wait for other ranks; None means without limit."""
        return self._protocol.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._protocol.timeout = check_timeout(seconds)

    def allreduce(self, array: NDArray[Any], op: Op = "sum") -> None:
        """Combine ``array`` (contiguous, same shape and dtype on all ranks) over ranks, in place. Collective."""
        protocol = self._protocol
        with protocol.collective_errors(_ALLREDUCE):
            check_choice("op", op, OPS)
            check_array(array, op)
        protocol.handshake(array_signature("allreduce", array, op=op))
        protocol.allreduce(array, op)

    def broadcast(self, array: NDArray[Any], root: int = 0) -> None:
        """Copy ``array`` (contiguous) of rank ``root`` to all ranks, in place. Collective."""
        protocol = self._protocol
        with protocol.collective_errors(_BROADCAST):
            check_choice("root", root, range(self.size))
            check_array(array)
        protocol.handshake(array_signature("broadcast", array, root=int(root)))
        protocol.broadcast(array, int(root))

    def allgather(self, value: T) -> list[T]:
        """Return the values (any picklable object) of all ranks, in rank order. Collective."""
        protocol = self._protocol
        with protocol.collective_errors(_ALLGATHER):
            content = pickle.dumps(value)
        protocol.handshake(_ALLGATHER)
        return list(map(pickle.loads, protocol.allgather(content)))

    def barrier(self) -> None:
        """Wait until all ranks have entered this call. Collective."""
        self._protocol.handshake(_BARRIER)

    def split(self: CommunicatorT, group_size: int) -> CommunicatorT:
        """Return the communicator of this rank's group of ``group_size`` consecutive ranks.

        Collective. The last group is smaller where ``group_size`` does not divide ``size``.
        """
        protocol = self._protocol
        with protocol.collective_errors(_SPLIT):
            group_size = check_integer("group_size", group_size)
        protocol.handshake(CollectiveSignature("split", (("group_size", group_size),), has_data=True))
        group = type(self).__new__(type(self))
        Communicator.__init__(group, protocol.split(group_size))
        return group

    def free(self) -> None:
        """Free what belongs to the communicator; further calls raise ValueError. Collective."""
        protocol = self._protocol
        if not (protocol.closed or protocol.unfinished):
            protocol.handshake(_FREE)
        protocol.free()

    def __enter__(self: CommunicatorT) -> CommunicatorT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Free the communicator; after an exception, close it without waiting for the other ranks."""
        if kind is None:
            self.free()
        else:
            self._protocol.close(kind)

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError(_NOT_COPIED.format(type(self).__name__))

    def __reduce__(self) -> NoReturn:
        raise TypeError(_NOT_COPIED.format(type(self).__name__))


_NOT_COPIED = (
    "{} can't be copied or pickled: it is a connection to other processes. Build the layer again "
    "with its communicator and move the values with state_dict() and load_state_dict()."
)
