"""What memory alone allows: copies and reads with nothing computed that would take longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from case import Candidate
from shapes import Problem

from syncbn.typing import FloatArray

READS: dict[str, Callable[[FloatArray], Any]] = {  # each reads all of x once, and sums or compares in vectors
    "dot": lambda flat: np.dot(flat, flat),
    "max": lambda flat: flat.max(),
    "sum of words": lambda flat: np.add.reduce(flat.view(np.int64)),
}


def copy(problem: Problem) -> Candidate:
    """One read and one write: x copied into an array that is there."""
    target = np.empty_like(problem.x)
    x = problem.x
    return Candidate(lambda: np.copyto(target, x))


def forward_limit(problem: Problem) -> Candidate:
    """One read of x for the statistics; one read and one write to normalize."""
    read, x = fastest_read(problem.x), problem.x
    y = np.empty_like(x)

    def run() -> None:
        read()
        np.copyto(y, x)

    return Candidate(run)


def backward_limit(problem: Problem) -> Candidate:
    """Two reads of x and dy, and one write of dx: both are read once alone, and once to write their sum."""
    read_x, read_dy = fastest_read(problem.x), fastest_read(problem.dy)
    x, dy = problem.x, problem.dy
    dx = np.empty_like(x)

    def run() -> None:
        read_x()
        read_dy()
        np.add(x, dy, out=dx)

    return Candidate(run)


def fastest_read(x: FloatArray) -> Callable[[], Any]:
    """Return a call that reads x (contiguous, of even size) once, by the fastest of `READS` here and now."""
    flat = x.reshape(-1)
    return min(((lambda read=read: read(flat)) for read in READS.values()), key=_shortest)


def _shortest(call: Callable[[], Any], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
