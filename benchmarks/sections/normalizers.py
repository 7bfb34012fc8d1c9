"""The other normalizers, forward and backward together."""

from __future__ import annotations

from collections.abc import Iterator

from case import Case
from peers import ours, pytorch
from shapes import CONVOLUTIONAL, DENSE, Problem, label

from syncbn.comm import Communicator

GROUPS = 32
"""Wu & He 2018."""


def cases(comm: Communicator) -> Iterator[Case]:  # noqa: ARG001
    """Yield group and instance normalization of convolutional shapes, layer normalization of dense ones."""
    for shape in CONVOLUTIONAL:
        problem = Problem.random(shape)
        name, size = label(shape), problem.x.nbytes
        group = {"syncbn": ours.group_norm(problem, GROUPS), "torch": pytorch.group_norm(problem, GROUPS)}
        yield Case("forward+backward, GN", name, group, size)
        instance = {"syncbn": ours.instance_norm(problem), "torch": pytorch.instance_norm(problem)}
        yield Case("forward+backward, IN", name, instance, size)
    for shape in DENSE:
        problem = Problem.random(shape)
        layer = {"syncbn": ours.layer_norm(problem), "torch": pytorch.layer_norm(problem)}
        yield Case("forward+backward, LN", label(shape), layer, problem.x.nbytes)
