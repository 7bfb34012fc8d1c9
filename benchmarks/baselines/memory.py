"""Limits set by the memory: copies and reads without further computation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from case import Candidate
from shapes import Problem

from syncbn.typing import FloatArray

READS: dict[str, Callable[[FloatArray], Any]] = {  # each reads x once and uses vector instructions
    "dot": lambda flat: np.dot(flat, flat),
    "max": lambda flat: flat.max(),
    "sum of integers": lambda flat: np.add.reduce(flat.view(np.int64)),
}


def copy(problem: Problem) -> Candidate:
    """Return a copy of x into an existing array: one read and one write."""
    target = np.empty_like(problem.x)
    x = problem.x
    return Candidate(lambda: np.copyto(target, x))


def forward_limit(problem: Problem) -> Candidate:
    """Return one read of x, as for the statistics, and one read and one write, as to normalize."""
    read, x = fastest_read(problem.x), problem.x
    y = np.empty_like(x)

    def run() -> None:
        read()
        np.copyto(y, x)

    return Candidate(run)


def backward_limit(problem: Problem) -> Candidate:
    """Return two reads of x and of dy and one write of dx, which is their sum."""
    read_x, read_dy = fastest_read(problem.x), fastest_read(problem.dy)
    x, dy = problem.x, problem.dy
    dx = np.empty_like(x)

    def run() -> None:
        read_x()
        read_dy()
        np.add(x, dy, out=dx)

    return Candidate(run)


def fastest_read(x: FloatArray) -> Callable[[], Any]:
    """Return a function that reads x (contiguous, of even size) once with the fastest of `READS` at present."""
    flat = x.reshape(-1)
    return min(((lambda read=read: read(flat)) for read in READS.values()), key=_shortest)


def _shortest(call: Callable[[], Any], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
