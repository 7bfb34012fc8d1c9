"""A transport whose ranks are the threads of one process, which shows how little a transport needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.comm import Communicator
from syncbn.comm.protocol import Protocol
from syncbn.comm.transport import OPS, Op, Test, Transport

COMBINE = dict(zip(OPS, (np.add, np.minimum, np.maximum), strict=True))


class Group:
    """What the ranks of a group have contributed to their operations, by the number of the operation."""

    def __init__(self, size: int, name: str) -> None:
        self.size, self.name = size, name
        self.lock = threading.Lock()
        self.contributions: dict[int, dict[int, Any]] = {}
        self.subgroups: dict[tuple[int, int], Group] = {}


class ThreadTransport(Transport):
    """One thread of a group; the members of a subgroup are numbered in the order of their ranks."""

    def __init__(self, group: Group, rank: int) -> None:
        self.group, self.rank, self.size, self.name = group, rank, group.size, group.name
        self.operations = 0

    def contribute(self, value: Any, use: Callable[[list[Any]], object]) -> Test:
        """Contribute to the next operation, and call ``use`` with the values of all ranks once they are there."""
        group, number = self.group, self.operations
        self.operations += 1
        with group.lock:
            values = group.contributions.setdefault(number, {})
            values[self.rank] = value

        def test() -> bool:
            if len(values) < self.size:
                return False
            use([values[rank] for rank in range(self.size)])
            return True

        return test

    def allreduce(self, array: NDArray[Any], op: Op) -> Test:
        def write(arrays: list[NDArray[Any]]) -> None:
            array[...] = COMBINE[op].reduce(arrays)

        return self.contribute(array.copy(), write)

    def broadcast(self, array: NDArray[Any], root: int) -> Test:
        def write(arrays: list[NDArray[Any]]) -> None:
            array[...] = arrays[root]

        return self.contribute(array.copy(), write)

    def allgather(self, own: NDArray[np.uint8], gathered: NDArray[np.uint8], sizes: Sequence[int]) -> Test:
        def write(arrays: list[NDArray[np.uint8]]) -> None:
            assert [array.size for array in arrays] == list(sizes)
            gathered[...] = np.concatenate(arrays)

        return self.contribute(own.copy(), write)

    def split(self, color: int, name: str) -> ThreadTransport:
        colors = np.zeros(self.size, int)
        colors[self.rank] = color
        test = self.allreduce(colors, "sum")
        while not test():
            pass
        members = np.flatnonzero(colors == color).tolist()
        with self.group.lock:
            subgroup = self.group.subgroups.setdefault((self.operations, color), Group(len(members), name))
        return ThreadTransport(subgroup, members.index(self.rank))

    def free(self) -> None:
        self.group.contributions.clear()


def on_threads(size: int, function: Callable[[Communicator], Any], *, timeout: float = 20.0) -> list[Any]:
    """Return what ``function`` returns, or the exception that it raises, on each of ``size`` ranks."""
    group = Group(size, "threads")

    def run(rank: int) -> Any:
        try:
            return function(Communicator(Protocol(ThreadTransport(group, rank), timeout=timeout)))
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(run, range(size)))
