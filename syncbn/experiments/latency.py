"""Latency of an allreduce."""

from __future__ import annotations

import statistics
import time

import numpy as np

from syncbn.comm import Communicator

SIZES = (8, 2048, 32768)
"""Sizes in bytes: one number, the handshake of a synchronized layer, and the gradient of a small layer."""

WARMUP = 20
CALLS = 200


def allreduce_microseconds(comm: Communicator, nbytes: int) -> float:
    """Return the median time of a float64 allreduce on the slowest rank. Collective.

    Raises
    ------
    RuntimeError
        The sum was wrong on any rank; raised on every rank.
    """
    seconds = []
    correct = True
    for call in range(WARMUP + CALLS):
        array = np.ones(nbytes // 8)
        comm.barrier()
        start = time.perf_counter()
        comm._protocol.sum(array)  # without a handshake, which the barrier included
        if call >= WARMUP:
            seconds.append(time.perf_counter() - start)
        correct = correct and bool(np.all(array == comm.size))
    medians, all_correct = zip(*comm.allgather((statistics.median(seconds), correct)), strict=True)
    if not all(all_correct):
        raise RuntimeError(f"an allreduce of {nbytes} bytes over {comm.size} ranks gave wrong sums")
    return 1e6 * float(max(medians))
