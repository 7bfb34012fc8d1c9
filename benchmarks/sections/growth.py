"""Growth of the time of forward and backward with one size at a time."""

from __future__ import annotations

from collections.abc import Iterator

from baselines import pytorch, syncbn
from case import Candidate, Case
from shapes import Problem

from syncbn.comm import Communicator

AXES = {  # shapes for each size along each axis
    "samples": {n: (n, 64, 28, 28) for n in (1, 2, 4, 8, 16, 32, 64)},
    "channels": {c: (2, c, 28, 28) for c in (8, 16, 32, 64, 128, 256, 512, 1024)},
    "spatial size": {s: (2, 64, s, s) for s in (4, 7, 14, 28, 56, 112, 224)},
}
THREADS = (1, 2)


def cases(comm: Communicator) -> Iterator[Case]:  # noqa: ARG001
    """Yield each point of each curve."""
    for axis, shapes in AXES.items():
        for point, shape in shapes.items():
            problem = Problem.random(shape)
            candidates: dict[str, Candidate] = {
                "syncbn": syncbn.both(problem),
                "syncbn float64": syncbn.both(problem, "float64"),
                "torch": pytorch.both(problem),
            }
            yield Case(f"growth, {axis}", str(point), candidates, problem.x.nbytes, point=point)
    for point, shape in AXES["samples"].items():
        problem = Problem.random(shape)
        candidates = syncbn.both_by_threads(problem, THREADS)
        yield Case("growth, samples by threads", str(point), candidates, problem.x.nbytes, point=point)
