"""Two threads against one, forward and backward together."""

from __future__ import annotations

from collections.abc import Iterator

from case import Case
from peers import ours
from shapes import CONVOLUTIONAL, DENSE, Problem, label

from syncbn.comm import Communicator

LEAST_BYTES = 1 << 20
"""Smaller arrays are not shared among threads."""


def cases(comm: Communicator) -> Iterator[Case]:  # noqa: ARG001
    """Yield the shapes of 1 MB and more."""
    for shape in (*CONVOLUTIONAL, *DENSE):
        problem = Problem.random(shape)
        if problem.x.nbytes >= LEAST_BYTES:
            yield Case(
                "forward+backward, threads", label(shape), ours.both_by_threads(problem, (1, 2)), problem.x.nbytes
            )
