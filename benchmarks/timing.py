"""Times of several candidates, taken in turn."""

from __future__ import annotations

import gc
import time

import numpy as np
from case import Candidate

from syncbn.comm import SERIAL, Communicator

LEAST_SECONDS = 2e-3
"""A candidate is repeated within a round until it takes so long."""

WARM_UP = 3
"""Rounds that do not count: a virtual machine may get its memory only when that is first used."""

CPU_SHARE = 1.5
"""More CPU time than this per thread and second means a thread that nobody asked for."""


class ThreadsError(Exception):
    """A candidate has used more threads than its share."""


def interleave(candidates: dict[str, Candidate], rounds: int, comm: Communicator = SERIAL) -> dict[str, list[float]]:
    """Return seconds per call of each candidate in each round.

    Collective. In a round every candidate runs once (repeated until it takes 2 ms), and each round starts
    with another one, so that none always inherits the same caches; `WARM_UP` rounds come before those that
    count. A time is that of the slowest rank.

    Raises
    ------
    ThreadsError
        A candidate of one process uses more CPU time than its threads could.
    """
    repeats = {name: _calibrate(candidate, comm) for name, candidate in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    cpu = dict.fromkeys(candidates, 0.0)
    names = list(candidates)
    gc.collect()
    gc.disable()
    try:
        for number in range(-WARM_UP, rounds):
            start = number % len(names)
            for name in names[start:] + names[:start]:
                seconds, cpu_seconds = _block(candidates[name], repeats[name], comm)
                if number >= 0:
                    times[name].append(seconds / repeats[name])
                    cpu[name] += cpu_seconds
    finally:
        gc.enable()
    for name, candidate in candidates.items():
        share = cpu[name] / (sum(times[name]) * repeats[name])
        if comm.size == 1 and share > CPU_SHARE * candidate.threads:
            raise ThreadsError(
                f"{name} takes {share:.2f} s of CPU time per second, allowed: {candidate.threads} threads"
            )
    return times


def _calibrate(candidate: Candidate, comm: Communicator) -> int:
    """Return how many calls take `LEAST_SECONDS`; the calls made here warm it up."""
    repeats = 1
    _block(candidate, 1, comm)
    while True:
        seconds, _ = _block(candidate, repeats, comm)
        if seconds >= LEAST_SECONDS:
            return repeats
        repeats = max(2 * repeats, int(repeats * 1.2 * LEAST_SECONDS / max(seconds, 1e-7)))


def _block(candidate: Candidate, repeats: int, comm: Communicator) -> tuple[float, float]:
    """Return wall time (of the slowest rank) and this process's CPU time of so many calls."""
    run = candidate.run
    with candidate.within():
        comm.barrier()
        cpu_start, start = time.process_time(), time.perf_counter()
        for _ in range(repeats):
            run()
        elapsed = np.array([time.perf_counter() - start])
        cpu = time.process_time() - cpu_start
    comm.allreduce(elapsed, "max")
    return float(elapsed[0]), cpu
