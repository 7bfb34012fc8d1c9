"""How long an allreduce takes."""

from __future__ import annotations

import statistics
import time

import numpy as np

from syncbn.comm import Communicator

SIZES = (8, 2048, 32768)
"""Bytes: one number, the handshake of a synchronized layer, and a small layer's gradient."""

WARMUP = 20
CALLS = 200


def allreduce_microseconds(comm: Communicator, nbytes: int) -> float:
    """Return the median time of an allreduce of float64 numbers, that of the slowest rank. Collective.

    Raises
    ------
    RuntimeError
        On every rank, where the sum came out wrong.
    """
    seconds = []
    right = True
    for call in range(WARMUP + CALLS):
        array = np.ones(nbytes // 8)
        comm.barrier()
        start = time.perf_counter()
        comm._protocol.sum(array)  # without a handshake, which the barrier made
        if call >= WARMUP:
            seconds.append(time.perf_counter() - start)
        right = right and bool(np.all(array == comm.size))
    medians, correct = zip(*comm.allgather((statistics.median(seconds), right)), strict=True)
    if not all(correct):
        raise RuntimeError(f"an allreduce of {nbytes} bytes over {comm.size} ranks gave wrong sums")
    return 1e6 * float(max(medians))
