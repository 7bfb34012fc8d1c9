"""The operations that the protocol needs of a message-passing library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

Op = Literal["sum", "min", "max"]
OPS: tuple[Op, ...] = get_args(Op)

Test = Callable[[], bool]
"""Returns whether an operation that was started has completed, and lets it progress."""


class Persistent(NamedTuple):
    """An operation that is run again and again: functions that start it, test it and free it."""

    start: Callable[[], object]
    test: Test
    free: Callable[[], object]


class Transport(ABC):
    """A group of ranks and its operations, each of which is started on all ranks in the same order.

    An operation returns a `Test`. Until that returns true, its arrays must neither be read nor written.

    Attributes
    ----------
    rank, size : int
        Number of this rank in the group, and number of ranks.
    name : str
        Name of the group in messages.
    """

    rank: int
    size: int
    name: str

    def open(self) -> Test:
        """Prepare the group for the other operations."""
        return completed

    @abstractmethod
    def allreduce(self, array: NDArray[Any], op: Op) -> Test:
        """Combine a contiguous array over ranks, in place."""

    def persistent_allreduce(self, buffer: NDArray[Any], op: Op) -> Persistent:
        """Return `allreduce` of one buffer as an operation that is run again and again."""
        tests: list[Test] = [completed]

        def start() -> None:
            tests[0] = self.allreduce(buffer, op)

        return Persistent(start, lambda: tests[0](), lambda: None)

    @abstractmethod
    def broadcast(self, array: NDArray[Any], root: int) -> Test:
        """Copy a contiguous array of rank ``root`` to all ranks, in place."""

    @abstractmethod
    def allgather(self, own: NDArray[np.uint8], gathered: NDArray[np.uint8], sizes: Sequence[int]) -> Test:
        """Write the bytes of all ranks to ``gathered``, in rank order; ``sizes`` are the numbers of bytes of each."""

    @abstractmethod
    def split(self, color: int, name: str) -> Transport:
        """Return the group of the ranks with the same ``color``."""

    @abstractmethod
    def free(self) -> None:
        """Free what belongs to the group. No operation is pending then."""


def completed() -> bool:
    """Return True: the test of an operation that completes at once."""
    return True
