"""Speed of `syncbn.torch.SyncBatchNorm`: forward and backward of a layer, through PyTorch's autograd.

    python benchmarks/torch_layer.py [--output DIRECTORY]
    mpiexec -n 2 python -m mpi4py benchmarks/torch_layer.py

In one process it is compared with the NumPy call that it contains (``numpy``) and with ``torch.nn.BatchNorm2d``
(``torch``). On several ranks it communicates over MPI, and is compared with the algorithm of detectron2's
NaiveSyncBatchNorm over gloo (``naive``): differentiable allreduces of E[x] and E[x²]. All candidates compute equal
results and alternate in one run, with one thread per rank; the table has medians over rounds and the medians of the
ratios of each round. The exit code is 1 if a limit is exceeded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.distributed as dist
from baselines import gloo, pytorch, syncbn
from case import Candidate, Case, check
from epochs import judged
from shapes import CONVOLUTIONAL, DENSE, EPS, Problem, label
from timing import interleave

from syncbn.comm import Communicator, MPIComm, SerialComm
from syncbn.experiments.versions import versions
from syncbn.torch import BatchNorm, SyncBatchNorm

LIMITS = {"numpy": 1.15, "torch": 1.0, "naive": 1 / 3}
"""Largest ratios of the layer's time to that of each other candidate, over all shapes together."""


def main() -> None:
    """Run the benchmark, print the table and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="rounds in which every candidate runs once")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="directory of the files")
    arguments = parser.parse_args()
    comm = MPIComm() if any(name in os.environ for name in ("PMI_RANK", "PMIX_RANK")) else SerialComm()
    with tempfile.TemporaryDirectory() as directory:
        if comm.size > 1:
            gloo.start(Path(comm.allgather(directory)[0]) / "gloo", comm.rank, comm.size)
        rows = [measure(comm, shape, arguments.rounds) for shape in (*CONVOLUTIONAL, *DENSE)]
        if comm.size > 1:
            gloo.stop()
        comm.barrier()  # every rank needs the file until it has left the group
    others = [name for name in LIMITS if name in rows[0]]
    totals = {name: sum(row["layer"] for row in rows) / sum(row[name] for row in rows) for name in others}
    if comm.rank == 0:
        ranks = f"{comm.size} rank{'s' * (comm.size > 1)}"
        text = [f"{ranks}, one thread each, {versions()['cpu']}; forward and backward, float32, microseconds", ""]
        text += [line(row) for row in rows]
        text += ["", "all shapes together:", *(judged(name, totals[name], LIMITS[name]) for name in others)]
        print("\n".join(text))
        if arguments.output:
            arguments.output.mkdir(parents=True, exist_ok=True)
            result = {"versions": versions(), "ranks": comm.size, "shapes": rows, "ratios": totals, "limits": LIMITS}
            (arguments.output / f"torch-{comm.size}.json").write_text(json.dumps(result, indent=1) + "\n")
            (arguments.output / f"torch-{comm.size}.txt").write_text("\n".join(text) + "\n")
    sys.exit(comm.allgather(any(totals[name] > LIMITS[name] for name in others))[0])


def measure(comm: Communicator, shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Return the median microseconds of each candidate, and the medians of the ratios of rounds. Collective."""
    weight, bias = np.linspace(0.5, 2, 2 * shape[1], dtype=np.float32).reshape(2, -1)  # equal on all ranks
    problem = replace(Problem.random(shape, seed=comm.rank), weight=weight, bias=bias)
    candidates = {"layer": by_layer(problem, SyncBatchNorm(shape[1], EPS, comm=comm))}
    if comm.size > 1:
        candidates["naive"] = by_layer(problem, NaiveSyncBatchNorm(shape[1], EPS))
    else:
        candidates["numpy"] = syncbn.both(problem)
        candidates["torch"] = by_layer(problem, BatchNorm(shape[1], EPS))
    check(Case("layers", label(shape), candidates, tolerance=2e-4))
    times = interleave(candidates, rounds, comm)
    others = [name for name in candidates if name != "layer"]
    ratios = {
        name: statistics.median(own / other for own, other in zip(times["layer"], times[name], strict=True))
        for name in others
    }
    medians = {name: 1e6 * statistics.median(seconds) for name, seconds in times.items()}
    return {"shape": label(shape), **medians, "ratios": ratios}


def line(row: dict[str, Any]) -> str:
    """Return a row of the table as text."""
    cells = (f"{name} {row[name]:.0f} (× {ratio:.2f})" for name, ratio in row["ratios"].items())
    return f"{row['shape']:14s} layer {row['layer']:8.0f}   {'   '.join(cells)}"


def by_layer(problem: Problem, layer: torch.nn.Module) -> Candidate:
    """Return forward and backward of a layer of PyTorch, with its running statistics."""
    x, dy, weight, bias = pytorch.tensors(problem)
    x.requires_grad_()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    inputs = x, layer.weight, layer.bias

    def run() -> tuple[Any, ...]:
        y = layer(x)
        return y.detach(), *torch.autograd.grad(y, inputs, dy)

    return Candidate(run, tuple)


class NaiveSyncBatchNorm(BatchNorm):
    """The algorithm of detectron2: statistics from allreduces of E[x] and E[x²] in PyTorch's operations."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y."""
        axes = [0, *range(2, x.dim())]
        mean, mean_square = _AllReduce.apply(torch.stack([x.mean(axes), (x * x).mean(axes)])) / dist.get_world_size()
        var = mean_square - mean * mean
        scale = self.weight * torch.rsqrt(var + self.eps)
        bias = self.bias - mean * scale
        with torch.no_grad():
            self.running_mean += self.momentum * (mean - self.running_mean)
            self.running_var += self.momentum * (var - self.running_var)
        shape = [1, -1, *[1] * (x.dim() - 2)]
        return x * scale.view(shape) + bias.view(shape)


class _AllReduce(torch.autograd.Function):
    """Sum over ranks, whose backward is the same sum."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        result = tensor.clone()
        dist.all_reduce(result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        result = gradient.clone()
        dist.all_reduce(result)
        return result


if __name__ == "__main__":
    main()
