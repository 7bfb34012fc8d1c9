"""The other normalizers, forward and backward in one call."""

from __future__ import annotations

from collections.abc import Iterator

from baselines import pytorch, syncbn
from case import Case
from shapes import CONVOLUTIONAL, DENSE, Problem, label

from syncbn.comm import Communicator

GROUPS = 32
"""Number of groups of group normalization (Wu & He 2018)."""


def cases(comm: Communicator) -> Iterator[Case]:  # noqa: ARG001
    """Yield group and instance normalization of convolutional shapes, layer normalization of dense ones."""
    for shape in CONVOLUTIONAL:
        problem = Problem.random(shape)
        name, size = label(shape), problem.x.nbytes
        group = {"syncbn": syncbn.group_norm(problem, GROUPS), "torch": pytorch.group_norm(problem, GROUPS)}
        yield Case("forward+backward, GN", name, group, size)
        instance = {"syncbn": syncbn.instance_norm(problem), "torch": pytorch.instance_norm(problem)}
        yield Case("forward+backward, IN", name, instance, size)
    for shape in DENSE:
        problem = Problem.random(shape)
        layer = {"syncbn": syncbn.layer_norm(problem), "torch": pytorch.layer_norm(problem)}
        yield Case("forward+backward, LN", label(shape), layer, problem.x.nbytes)
