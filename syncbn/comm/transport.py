"""Interface of a message-passing library, with the operations that the protocol needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

Op = Literal["sum", "min", "max"]
OPS: tuple[Op, ...] = get_args(Op)

Test = Callable[[], bool]
"""A function that progresses a started operation and returns whether it has completed, as ``MPI_Test`` does."""


class Persistent(NamedTuple):
    """A persistent operation, as in MPI-4: functions that start it (many times), test it and free it."""

    start: Callable[[], object]
    test: Test
    free: Callable[[], object]


class Types(NamedTuple):
    """NumPy types of the arrays that a library can send and combine."""

    library: str
    numpy: frozenset[type]


MPI_TYPES = Types("MPI", frozenset(np.dtype(code).type for code in "?bhilqBHILQfdgFDG"))  # those of C, so not half


class Transport(ABC):
    """A group of ranks and its operations, each of which is started on all ranks in the same order.

    An operation returns a `Test`. Until the test returns True, its arrays must be neither read nor written.

    Attributes
    ----------
    rank, size : int
        Rank of this process in the group, and number of ranks.
    name : str
        Name of the group in error messages.
    types : Types
    members : sequence of int
        Identifier of each rank's process, the same in all groups (in MPI, its rank in COMM_WORLD); () if unknown.
    """

    rank: int
    size: int
    name: str
    types: Types = MPI_TYPES
    members: Sequence[int] = ()

    def open(self) -> Test:
        """Prepare the group for the other operations."""
        return completed

    def ended(self) -> str:
        """Return why no further operation can be started; "" while one can."""
        return ""

    @abstractmethod
    def allreduce(self, array: NDArray[Any], op: Op) -> Test:
        """Combine a contiguous array over ranks, in place."""

    def persistent_allreduce(self, buffer: NDArray[Any], op: Op) -> Persistent:
        """Return `allreduce` of one buffer as a persistent operation."""
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
        """Free the resources of the group. No operation may be pending."""


def completed() -> bool:
    """Return True: the test of an operation that completes at once."""
    return True
