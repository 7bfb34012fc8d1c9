"""Growth of the time of synchronized batch normalization with ranks, at a constant number of samples per rank."""

from __future__ import annotations

from collections.abc import Iterator

from baselines import syncbn
from case import Case
from shapes import Problem, label

from sections.synchronized import BATCH, synchronized
from syncbn.comm import Communicator

SHAPES = ((BATCH, 64, 56, 56), (BATCH, 256, 14, 14), (BATCH, 2048, 7, 7))


def cases(comm: Communicator) -> Iterator[Case]:
    """Yield the point of this number of ranks for each shape, with local statistics for comparison. Collective."""
    for shape in SHAPES:
        problem = Problem.random(shape, seed=comm.rank)
        candidates = {"syncbn": synchronized(problem, comm), "syncbn float64": synchronized(problem, comm, "float64")}
        local = syncbn.both(problem)
        candidates["local"] = type(local)(local.run)  # without outputs, because its statistics differ
        yield Case(f"growth, ranks, {label(shape)}", str(comm.size), candidates, problem.x.nbytes, point=comm.size)
