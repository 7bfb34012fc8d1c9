"""Two threads against one, forward and backward in one call."""

from __future__ import annotations

from collections.abc import Iterator

from baselines import syncbn
from case import Case
from shapes import CONVOLUTIONAL, DENSE, Problem, label

from syncbn.comm import Communicator

MIN_BYTES = 1 << 20
"""Smaller arrays are processed by one thread."""


def cases(comm: Communicator) -> Iterator[Case]:  # noqa: ARG001
    """Yield the shapes of 1 MB and more."""
    for shape in (*CONVOLUTIONAL, *DENSE):
        problem = Problem.random(shape)
        if problem.x.nbytes >= MIN_BYTES:
            yield Case(
                "forward+backward, threads", label(shape), syncbn.both_by_threads(problem, (1, 2)), problem.x.nbytes
            )
