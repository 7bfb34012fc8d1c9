"""What every communicator offers, on one rank or on many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from syncbn._core.message import NOTHING
from syncbn.comm.call import Signature, call_of

T = TypeVar("T")
Op = Literal["sum", "min", "max"]


class Communicator(ABC):
    """A group of ranks. Every method marked ``Collective.`` must be called by all of them.

    Attributes
    ----------
    rank, size : int
        This process's number in the group, and how many there are.
    bytes_sent : int
        Bytes that this rank has handed to collectives so far.
    """

    rank: int
    size: int
    bytes_sent: int

    def __init__(self) -> None:
        self.bytes_sent = 0
        self._layers = 0

    def register_layer(self, kind: str) -> str:
        """Return the identity of a new layer: ``kind`` and the order of creation.

        Not collective, but all ranks must create their layers in the same order: their calls are
        told apart by it.
        """
        self._layers += 1
        return f"{kind} #{self._layers}"

    @abstractmethod
    def agree(
        self,
        call: Signature,
        maxima: NDArray[np.float64] = NOTHING,
        error: Exception | None = None,
        forward_number: int = 0,
    ) -> int:
        """Check that all ranks make the same call, and combine ``maxima`` over ranks by MAX, in place.

        Collective.

        Parameters
        ----------
        call : Signature
            What this rank calls.
        maxima : ndarray of float64, contiguous
            As many words on every rank as follow from ``call``; may be empty.
        error : Exception, optional
            This rank's own input is bad: raise it here, and `SyncMismatchError` on the others.
        forward_number : int
            Of a backward: the number of its forward, which must agree too.

        Returns
        -------
        int
            The number of this call on the communicator.

        Raises
        ------
        SyncMismatchError
            On every rank, saying what this one called and what did not fit.
        """

    @contextmanager
    def preparing(self, call: Signature) -> Iterator[None]:
        """Raise on all ranks what is raised in the block: the others wait in ``call`` to hear of it.

        Collective where it raises; in the block nothing is sent.
        """
        try:
            yield
        except Exception as error:  # whatever it is
            self.agree(call, error=error)
            raise

    @abstractmethod
    def allreduce(self, array: NDArray[Any], op: Op = "sum") -> None:
        """Combine ``array`` (contiguous, same shape and dtype on all ranks) over ranks, in place. Collective."""

    @abstractmethod
    def allreduce_agreed(self, array: NDArray[Any]) -> None:
        """Sum ``array`` over ranks, in place: the second message of the call just agreed on. Collective.

        What `agree` has compared must tell that its shape and dtype are the same on all ranks.
        """

    # What plans call; see syncbn._core.plans.
    @property
    def _distributed(self) -> Communicator | None:
        """The protocol that plans use, or None for one process alone."""
        return self

    def handshake(self, signature: Signature, max_buffer: Any = None, forward: int = 0) -> int:
        """Check that all ranks make the same call. Collective."""
        return self.agree(signature, NOTHING if max_buffer is None else max_buffer, None, forward)

    def layer_signature(self, *fields: Any) -> Any:
        """Return the signature of a forward. Not collective."""
        return call_of("forward", *fields)

    def unknown_signature(self, direction: Any, layer: Any) -> Any:
        """Return the signature of a call whose input could not be read. Not collective."""
        return call_of(direction, layer if isinstance(layer, str) else "", 0, "", "", 0.0, "")

    def collective_errors(self, signature: Any) -> Any:
        """Raise on all ranks what is raised in the block. Collective."""
        return self.preparing(signature)

    def max_buffer(self, size: int) -> Any:
        """Return memory for maxima. Not collective."""
        return self.maxima(size)

    def sum_buffer(self, size: int, dtype: Any) -> Any:
        """Return memory for sums. Not collective."""
        return self.summands(size, dtype)

    def sum(self, array: Any) -> None:
        """Sum over ranks, in place. Collective."""
        self.allreduce_agreed(array)

    def maxima(self, size: int) -> NDArray[np.float64]:
        """Return memory that `agree` combines without a copy, for one call.

        Not collective.
        """
        return np.empty(size)

    def summands(self, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return memory that `allreduce_agreed` sums without a copy, for one call.

        Not collective.
        """
        return np.empty(size, dtype)

    @abstractmethod
    def broadcast(self, array: NDArray[Any], root: int = 0) -> None:
        """Copy ``array`` (contiguous) of rank ``root`` to all ranks, in place. Collective."""

    @abstractmethod
    def allgather(self, value: T) -> list[T]:
        """Return the values (any picklable object) of all ranks, in rank order. Collective."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until all ranks are here. Collective."""

    @abstractmethod
    def split(self, group_size: int) -> Communicator:
        """Return the communicator of this rank's group of ``group_size`` consecutive ranks. Collective."""

    @abstractmethod
    def free(self) -> None:
        """Give the communicator's resources back; further calls raise. Collective."""

    def __enter__(self) -> Communicator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.free()

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError(_NOT_COPIED.format(type(self).__name__))

    def __reduce__(self) -> NoReturn:
        raise TypeError(_NOT_COPIED.format(type(self).__name__))


_NOT_COPIED = (
    "{} can't be copied or pickled: it is a connection to other processes. Build the layer again "
    "with its communicator and move the values with state_dict() and load_state_dict()."
)
