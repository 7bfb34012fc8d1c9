"""Time of a synchronized layer compared with local batch normalization, measured in one run."""

from __future__ import annotations

import statistics
import time

import numpy as np

from syncbn.comm import Communicator
from syncbn.layers import BatchNorm, SyncBatchNorm
from syncbn.typing import Float64Array, FloatArray

KINDS = ("local", "float64", "exact")
"""Local BatchNorm, and SyncBatchNorm with either reduction."""

VALUES_PER_ROUND = 2_000_000
MAX_REPEATS = 500
"""Limit of the calls per round; small layers run repeatedly, so that a round takes milliseconds."""


def layer_times(
    comm: Communicator, shape: tuple[int, ...], rounds: int, one_rank: Communicator | None = None
) -> dict[str, float]:
    """Return the microseconds of forward and backward of a layer of each kind.

    Collective. The kinds alternate within each round. The time of a round is that of the slowest rank; the median
    over rounds is returned.

    Parameters
    ----------
    comm : Communicator
    shape : tuple of int
        Shape of the float32 batch of each rank, with channels on axis 1.
    rounds : int
    one_rank : Communicator, optional
        A communicator of this rank only. A further kind ``one_rank`` is SyncBatchNorm over it, which does all the
        work without waiting for other ranks.
    """
    channels = shape[1]
    layers = {
        "local": BatchNorm(channels),
        "float64": SyncBatchNorm(channels, comm=comm, reduction="float64"),
        "exact": SyncBatchNorm(channels, comm=comm),
    }
    if one_rank is not None:
        layers["one_rank"] = SyncBatchNorm(channels, comm=one_rank)
    x, dy = _batch(comm, shape)
    repeats = min(MAX_REPEATS, max(1, VALUES_PER_ROUND // x.size))
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
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


def arrival_delays(comm: Communicator, shape: tuple[int, ...], calls: int) -> Float64Array:
    """Return the delays in microseconds with which ranks complete local forwards and backwards, relative to their mean.

    Collective. Ranks would enter a collective call with these delays. They are scaled by √(P/(P−1)), because each of
    P ranks contributes to the mean. The result is empty on one rank.

    Parameters
    ----------
    comm : Communicator
    shape : tuple of int
        Shape of the batch, as in `layer_times`.
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
