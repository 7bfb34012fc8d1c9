"""Measurements on the ranks of this machine: allreduces, layers and delays."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from syncbn._core.threads import affinity, usable_cores
from syncbn.comm import Communicator
from syncbn.experiments.latency import allreduce_microseconds
from syncbn.experiments.machine import host_name
from syncbn.experiments.overhead import KINDS, arrival_delays, layer_times
from syncbn.experiments.scale.fit import Timing

SIZES = (8, 512, 2048, 4096, 8192, 16384, 32768, 65536)
"""Sizes in bytes of the messages of SyncBN with up to 2,048 channels."""

ROUNDS = 5
CALLS = 20
PASSES = 3
"""Repetitions of all sizes, of which the fastest counts: other programs only make an allreduce slower."""

MATRIX_SIZE = 768


@dataclass(frozen=True)
class Measurement:
    """Times on one number of ranks, in microseconds.

    Attributes
    ----------
    ranks : int
    cores_per_rank : float
        Minimum over the nodes; below 1, ranks share cores and wait for each other.
    timings : sequence of Timing
        Times of allreduces, including those on groups of one rank.
    gamma : float
        Microseconds to add one byte.
    layers : mapping
        Times of forward and backward through all layers for each kind of `KINDS` and for SyncBN over one rank
        (``one_rank``); empty if the layers have no shapes.
    delays : sequence of float
        Delays with which ranks enter a collective call.
    multiply_adds : float
        Multiply-adds of float32 matrix products per microsecond on each rank.
    """

    ranks: int
    cores_per_rank: float
    timings: Sequence[Timing]
    gamma: float
    layers: Mapping[str, float]
    delays: Sequence[float]
    multiply_adds: float

    @property
    def oversubscribed(self) -> bool:
        """True if ranks share cores."""
        return self.cores_per_rank < 1

    @property
    def sigma(self) -> float:
        """σ of normal delays with the same interquartile range, which outliers do not affect."""
        if not self.delays:
            return 0.0
        from scipy.stats import iqr

        return float(iqr(self.delays, scale="normal"))

    def as_json(self) -> dict[str, Any]:
        """Return the measurement as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Measurement:
        """Return the measurement from the result of `as_json`."""
        return cls(**{**found, "timings": [Timing(*timing) for timing in found["timings"]]})


def measure(
    comm: Communicator,
    shapes: Mapping[tuple[int, ...], int],
    rounds: int = ROUNDS,
    calls: int = CALLS,
) -> Measurement:
    """Measure allreduces, layers and delays on the ranks of ``comm``.

    Collective.

    Parameters
    ----------
    comm : Communicator
    shapes : mapping
        Number of layers for each shape of the batch of a rank.
    rounds, calls : int
        Numbers of repetitions, which are reduced if ranks share cores.
    """
    cores_per_rank = min(comm.allgather(_cores_of_node(comm)))
    if cores_per_rank < 1:
        rounds, calls = min(rounds, 2), min(calls, 5)
    one_rank = comm.split(1)
    timings = allreduce_timings(one_rank, SIZES[:3])
    if comm.size > 1:
        timings += allreduce_timings(comm, sizes_for(cores_per_rank), 1 if cores_per_rank < 1 else PASSES)
    layers = dict.fromkeys((*KINDS, "one_rank"), 0.0) if shapes else {}
    delays: list[float] = []
    for shape, count in shapes.items():
        for kind, microseconds in layer_times(comm, shape, rounds, one_rank).items():
            layers[kind] += count * microseconds
        delays += arrival_delays(comm, shape, calls).tolist()
    one_rank.free()
    return Measurement(
        ranks=comm.size,
        cores_per_rank=cores_per_rank,
        timings=timings,
        gamma=min(comm.allgather(add_time())),
        layers=layers,
        delays=delays,
        multiply_adds=min(comm.allgather(multiply_add_rate())),
    )


def _cores_of_node(comm: Communicator) -> float:
    """Return the number of cores for each rank of this node, also where each is bound to its own. Collective."""
    host = host_name()
    places = comm.allgather((host, affinity()))
    own = [allowed for name, allowed in places if name == host]
    return usable_cores(set[int]().union(*own)) / len(own)


def allreduce_timings(comm: Communicator, sizes: Sequence[int], passes: int = PASSES) -> list[Timing]:
    """Return the time of an allreduce of each size, the minimum of several medians. Collective."""
    medians = [[allreduce_microseconds(comm, nbytes) for nbytes in sizes] for _ in range(passes)]
    return [
        Timing(comm.size, nbytes, min(times)) for nbytes, times in zip(sizes, zip(*medians, strict=True), strict=True)
    ]


def sizes_for(cores_per_rank: float) -> tuple[int, ...]:
    """Return the sizes to measure: fewer if ranks share cores, because each call may then take milliseconds."""
    return SIZES if cores_per_rank >= 1 else SIZES[::3]


def add_time(nbytes: int = 32768, calls: int = 200) -> float:
    """Return the microseconds per byte of adding int64 numbers in cache. Not collective."""
    total, other = np.ones((2, nbytes // 8), np.int64)
    return 1e6 * _median_time(lambda: np.add(total, other, out=total), calls) / nbytes


def multiply_add_rate(side: int = MATRIX_SIZE, calls: int = 5) -> float:
    """Return the multiply-adds per microsecond of a product of float32 matrices. Not collective."""
    left, right = np.ones((2, side, side), np.float32)
    return side**3 / (1e6 * _median_time(lambda: left @ right, calls))


def _median_time(work: Callable[[], object], calls: int) -> float:
    seconds = []
    for _ in range(calls + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])
