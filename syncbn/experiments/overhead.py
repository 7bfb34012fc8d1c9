"""What synchronizing a layer takes, beside local batch normalization in the same run."""

from __future__ import annotations

import statistics
import time

import numpy as np

from syncbn.comm import Communicator
from syncbn.layers import BatchNorm, SyncBatchNorm
from syncbn.typing import Float64Array, FloatArray

KINDS = ("local", "float64", "exact")
"""BatchNorm of each rank alone, and SyncBatchNorm with either reduction."""

VALUES_PER_ROUND = 2_000_000
MOST_REPEATS = 500
"""Small layers run several times a round, so that a round takes milliseconds."""


def layer_times(
    comm: Communicator, shape: tuple[int, ...], rounds: int, alone: Communicator | None = None
) -> dict[str, float]:
    """Return the microseconds of forward and backward of a layer of each kind.

    Collective. The kinds run in turn; a round's time is that of the slowest rank, and the median over rounds
    is returned.

    Parameters
    ----------
    comm : Communicator
    shape : tuple of int
        Of each rank's float32 batch, channels second.
    rounds : int
    alone : Communicator, optional
        A group of this rank alone: a further kind ``alone`` is SyncBatchNorm over it, which has all the work but the
        waiting.
    """
    channels = shape[1]
    layers = {
        "local": BatchNorm(channels),
        "float64": SyncBatchNorm(channels, comm=comm, reduction="float64"),
        "exact": SyncBatchNorm(channels, comm=comm),
    }
    if alone is not None:
        layers["alone"] = SyncBatchNorm(channels, comm=alone)
    x, dy = _batch(comm, shape)
    repeats = min(MOST_REPEATS, max(1, VALUES_PER_ROUND // x.size))
    times: dict[str, list[float]] = {name: [] for name in layers}
    for _ in range(rounds + 1):
        for name, layer in layers.items():
            comm.barrier()
            start = time.perf_counter()
            for _ in range(repeats):
                _, backward = layer(x)
                backward(dy)
            elapsed = np.array([time.perf_counter() - start])
            comm.allreduce(elapsed, "max")
            times[name].append(float(elapsed[0]) / repeats * 1e6)
    return {name: statistics.median(kept[1:]) for name, kept in times.items()}


def arrival_delays(comm: Communicator, shape: tuple[int, ...], calls: int) -> Float64Array:
    """Return how many microseconds more than the mean of all ranks each rank's local forwards and backwards took.

    Collective. These are the delays with which ranks would come to a collective at their end. They are scaled by
    √(P/(P−1)), since a mean of P ranks has a share of each; none on one rank.

    Parameters
    ----------
    comm : Communicator
    shape : tuple of int
        As in `layer_times`.
    calls : int
    """
    if comm.size == 1:
        return np.empty(0)
    layer = BatchNorm(shape[1])
    x, dy = _batch(comm, shape)
    took = []
    for _ in range(calls + 1):
        comm.barrier()
        start = time.perf_counter()
        _, backward = layer(x)
        middle = time.perf_counter()
        backward(dy)
        took += [middle - start, time.perf_counter() - middle]
    took_rc = 1e6 * np.array(comm.allgather(took[2:]))
    delays_rc: Float64Array = took_rc - took_rc.mean(axis=0)
    delays_rc *= np.sqrt(comm.size / (comm.size - 1))
    return delays_rc.reshape(-1)


def _batch(comm: Communicator, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    x, dy = np.random.default_rng(comm.rank).standard_normal((2, *shape), dtype=np.float32)
    return x, dy
