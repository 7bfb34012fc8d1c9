"""The largest shape against the limits set by the memory."""

from __future__ import annotations

from collections.abc import Iterator

from baselines import memory, syncbn
from case import Case
from shapes import LARGEST, Problem, label

from syncbn.comm import Communicator


def cases(comm: Communicator) -> Iterator[Case]:  # noqa: ARG001
    """Yield both directions of the largest shape."""
    problem = Problem.random(LARGEST)
    name, size = label(LARGEST), problem.x.nbytes
    forward = {"syncbn": syncbn.forward(problem), "limit": memory.forward_limit(problem)}
    yield Case("forward, memory limit", name, forward, size)
    backward = {"syncbn": syncbn.backward(problem), "limit": memory.backward_limit(problem)}
    yield Case("backward, memory limit", name, backward, size)
