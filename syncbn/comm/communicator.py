"""The base class of communicators, with their public methods."""

from __future__ import annotations

import pickle
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from numpy.typing import NDArray

from syncbn._core.checks import check_integer, shown
from syncbn._core.exact_sum import ExactSum
from syncbn.comm.arguments import array_signature, check_array, check_choice, check_timeout
from syncbn.comm.collective import collective
from syncbn.comm.signature import CollectiveSignature
from syncbn.comm.transport import OPS, Op
from syncbn.other_libraries import COMMUNICATION, check_assignment, unknown
from syncbn.pitfalls import see
from syncbn.typing import FloatArray

if TYPE_CHECKING:
    from syncbn.comm.protocol import Protocol
    from syncbn.comm.serial import SerialProtocol

T = TypeVar("T")
CommunicatorT = TypeVar("CommunicatorT", bound="Communicator")

_ALLGATHER = CollectiveSignature("allgather", has_data=True)
_BARRIER, _FREE = map(CollectiveSignature, ("barrier", "free"))

_of_self = collective(lambda passed: passed["self"])


class Communicator:
    """A group of ranks. All ranks must call the methods marked ``Collective.``, in the same order.

    Parameters
    ----------
    protocol : Protocol or SerialProtocol
        Implementation of the calls.

    See Also
    --------
    syncbn.MPIComm : The ranks of MPI.
    syncbn.SerialComm : One process.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import MPIComm
    >>> comm = MPIComm()
    >>> group = comm.split(2)  # ranks 0 and 1, ranks 2 and 3, ...
    >>> group.size <= 2
    True
    >>> comm.allgather(comm.rank) == list(range(comm.size))
    True
    >>> group.free()
    >>> comm.free()
    """

    _protocol: Protocol | SerialProtocol

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    @property
    def _distributed(self) -> Any:
        """Protocol that is passed to `syncbn._core.plans`; None for a `SerialComm`."""
        return self._protocol

    @property
    def rank(self) -> int:
        """Rank of this process in the group, from 0 to size − 1."""
        return self._protocol.rank

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self._protocol.size

    @property
    def bytes_sent(self) -> int:
        """Number of bytes that this rank has passed to collective operations."""
        return self._protocol.bytes_sent

    @property
    def timeout(self) -> float | None:
        """Maximum time in seconds that a call waits for other ranks; None means without limit."""
        return self._protocol.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._protocol.timeout = check_timeout(seconds)

    @_of_self
    def allreduce(self, array: NDArray[Any], op: Op = "sum") -> None:
        """Combine the arrays of all ranks by ``op`` ("sum", "min" or "max"), in place.

        Collective. The arrays must be contiguous, with equal sizes and dtypes on all ranks.
        """
        protocol = self._protocol
        check_choice("op", op, OPS)
        check_array(array, protocol.types, op)
        protocol.handshake(array_signature("allreduce", array, op=op))
        protocol.allreduce(array, op)

    @_of_self
    def exact_sum(self, array: FloatArray, *, axis: int | tuple[int, ...] | None = None) -> Any:
        """Return the sum over ``axis`` and over all ranks: the exact value, rounded once.

        Collective. `syncbn.exact_sum` describes the arguments and the result.
        """
        protocol = self._protocol
        steps = ExactSum(array, axis)
        arguments = (("shape of the result", steps.shape), ("dtype", steps.dtype.name))
        range_2 = protocol.max_buffer(2)
        steps.find_range(range_2)
        protocol.handshake(CollectiveSignature("exact_sum", arguments, has_data=True), range_2)
        limbs = steps.limbs(range_2)
        protocol.allreduce(limbs, "sum")
        return steps.rounded(limbs)[()]

    @_of_self
    def broadcast(self, array: NDArray[Any], root: int = 0) -> None:
        """Copy the array of rank ``root`` to the arrays of all ranks.

        Collective. The arrays must be contiguous, with equal sizes and dtypes on all ranks.
        """
        protocol = self._protocol
        check_choice("root", root, range(self.size))
        check_array(array, protocol.types)
        protocol.handshake(array_signature("broadcast", array, root=int(root)))
        protocol.broadcast(array, int(root))

    @_of_self
    def allgather(self, value: T) -> list[T]:
        """Return the values of all ranks in rank order; a value is any picklable object. Collective."""
        protocol = self._protocol
        try:
            content = pickle.dumps(value)
        except Exception as error:
            raise TypeError(f"allgather takes an object that pickle can copy, got {shown(value)}: {error}") from error
        protocol.handshake(_ALLGATHER)
        return list(map(pickle.loads, protocol.allgather(content)))

    @_of_self
    def barrier(self) -> None:
        """Wait until all ranks have entered this call. Collective."""
        self._protocol.handshake(_BARRIER)

    @_of_self
    def split(self: CommunicatorT, group_size: int) -> CommunicatorT:
        """Return the communicator of this rank's group of ``group_size`` consecutive ranks.

        Collective. The last group is smaller if ``group_size`` does not divide ``size``.
        """
        protocol = self._protocol
        group_size = check_integer("group_size", group_size)
        protocol.handshake(CollectiveSignature("split", (("group_size", group_size),), has_data=True))
        group = type(self).__new__(type(self))
        Communicator.__init__(group, protocol.split(group_size))
        return group

    @_of_self
    def free(self) -> None:
        """Free the resources of the communicator; further calls raise ValueError. Collective."""
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

    if not TYPE_CHECKING:  # a type checker reports unknown names by itself

        def __getattr__(self, name: str) -> NoReturn:
            """Raise AttributeError, which says what there is instead of a name of mpi4py or PyTorch."""
            raise AttributeError(unknown(f"{type(self).__name__!r} object", name, COMMUNICATION), name=name, obj=self)

        def __setattr__(self, name: str, value: object) -> None:
            """Raise AttributeError for a misspelt name, whose assignment would have no effect."""
            check_assignment(self, name, value, COMMUNICATION)
            super().__setattr__(name, value)

    def __repr__(self) -> str:
        closed = ", closed" if self._protocol.closed else ""
        return f"{type(self).__name__}(rank {self.rank} of {self.size}{closed})"

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError(_NOT_COPIED.format(type(self).__name__))

    def __reduce__(self) -> NoReturn:
        raise TypeError(_NOT_COPIED.format(type(self).__name__))


_NOT_COPIED = (
    "{} can't be copied or pickled: it is a connection to other processes. Build the layer again "
    f"with its communicator and move the values with state_dict() and load_state_dict(){see('copies')}"
)
