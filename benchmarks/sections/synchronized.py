"""Synchronized batch normalization of all layers of ResNet-50, against torch.distributed with gloo."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baselines import gloo
from case import Candidate, Case
from shapes import EPS, Problem, label

from syncbn import functional as F
from syncbn.comm import Communicator
from syncbn.experiments.bn_layers import RESNET50
from syncbn.experiments.normalizers import Reduction

BATCH = 2
"""Samples per rank."""


def cases(comm: Communicator) -> Iterator[Case]:
    """Yield the distinct shapes, weighted with their numbers of layers. Collective."""
    with tempfile.TemporaryDirectory() as directory:
        gloo.start(Path(comm.allgather(directory)[0]) / "gloo", comm.rank, comm.size)
        for shape, layers in RESNET50.items():
            problem = Problem.random((BATCH, *shape), seed=comm.rank)
            candidates = {
                "syncbn": synchronized(problem, comm),
                "syncbn float64": synchronized(problem, comm, "float64"),
                "gloo": gloo.both(problem, gloo.shifted_sums),
                "gloo moments": gloo.both(problem, gloo.moments),
            }
            yield Case("SyncBN, forward+backward", label(problem.shape), candidates, problem.x.nbytes, weight=layers)
        gloo.stop()
        comm.barrier()  # every rank needs the file until it has left the group


def synchronized(problem: Problem, comm: Communicator, reduction: Reduction = "exact") -> Candidate:
    """Return forward and backward with the statistics of all ranks."""
    x, dy, weight, bias = problem.x, problem.dy, problem.weight, problem.bias

    def run() -> tuple[Any, ...]:
        y, _, gradients = F.batch_norm(x, weight, bias, eps=EPS, comm=comm, reduction=reduction)
        return y, *gradients(dy)

    return Candidate(run, tuple)
