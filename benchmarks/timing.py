"""Times of several candidates, measured alternately."""

from __future__ import annotations

import gc
import time

import numpy as np
from case import Candidate

from syncbn.comm import SERIAL, Communicator

MIN_SECONDS = 2e-3
"""A candidate is repeated within a round until it takes this time."""

WARM_UP = 3
"""Uncounted rounds at the beginning: a virtual machine may receive its memory only when it is first used."""


class ThreadsError(Exception):
    """A candidate used more threads than it may."""


def interleave(candidates: dict[str, Candidate], rounds: int, comm: Communicator = SERIAL) -> dict[str, list[float]]:
    """Return seconds per call of each candidate in each round.

    Collective. In a round every candidate runs once (repeated until it takes 2 ms). Each round starts with another
    candidate, so that the contents of the caches vary; `WARM_UP` uncounted rounds precede the others. Times are those
    of the slowest rank.

    Raises
    ------
    ThreadsError
        A candidate in one process uses more CPU time than its threads allow.
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
        if comm.size == 1 and share > candidate.cpu_share * candidate.threads:
            raise ThreadsError(f"{name} uses {share:.2f} s of CPU time per second with {candidate.threads} threads")
    return times


def _calibrate(candidate: Candidate, comm: Communicator) -> int:
    """Return the number of calls that take `MIN_SECONDS`; these calls also warm up the candidate."""
    repeats = 1
    _block(candidate, 1, comm)
    while True:
        seconds, _ = _block(candidate, repeats, comm)
        if seconds >= MIN_SECONDS:
            return repeats
        repeats = max(2 * repeats, int(repeats * 1.2 * MIN_SECONDS / max(seconds, 1e-7)))


def _block(candidate: Candidate, repeats: int, comm: Communicator) -> tuple[float, float]:
    """Return the wall time (of the slowest rank) and the CPU time (of this process) of ``repeats`` calls."""
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
