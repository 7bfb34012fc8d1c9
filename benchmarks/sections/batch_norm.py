"""Batch normalization in training: each direction, each memory order, and dense layers."""

from __future__ import annotations

from collections.abc import Iterator

from baselines import jax, memory, onednn, pytorch, syncbn
from case import Candidate, Case
from shapes import CONVOLUTIONAL, DENSE, Problem, label

from syncbn.comm import Communicator


def cases(comm: Communicator) -> Iterator[Case]:  # noqa: ARG001 (all sections have this signature)
    """Yield forward and backward of every shape, then both in one call for dense layers."""
    for channels_last in (False, True):
        for shape in CONVOLUTIONAL:
            yield from _directions("channels-last" if channels_last else "NCHW", Problem.random(shape, channels_last))
    for shape in DENSE:
        problem = Problem.random(shape)
        yield from _directions("dense", problem)
        candidates = {
            "syncbn": syncbn.both(problem),
            "syncbn float64": syncbn.both(problem, "float64"),
            "torch": pytorch.both(problem),
        }
        yield Case("forward+backward, dense", label(shape), candidates, problem.x.nbytes)


def _directions(layout: str, problem: Problem) -> Iterator[Case]:
    for direction in ("forward", "backward"):
        candidates: dict[str, Candidate] = {
            "syncbn": getattr(syncbn, direction)(problem),
            "torch": getattr(pytorch, direction)(problem),
            "jax": getattr(jax, direction)(problem),
            "copy": memory.copy(problem),
        }
        if layout == "NCHW":
            candidates["onednn"] = getattr(onednn, direction)(problem)
        yield Case(f"{direction}, {layout}", label(problem.shape), candidates, problem.x.nbytes)
