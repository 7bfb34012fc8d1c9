"""Benefit of adding gradients over ranks during the backward pass.

    mpiexec -n 2 python -m mpi4py benchmarks/overlap.py [--append FILE]

Compares one allreduce of all gradients after the backward pass, as in `syncbn.train`, with an Iallreduce of each bucket
as soon as its gradients are complete, for the networks of ``syncbn compare`` with local batch normalization. The share
of the allreduce in a step, measured by a step without it, is the upper bound of the benefit. Every rank runs one
thread. The variants alternate, each round gives one ratio, and the table has medians over rounds. Times are those of
the slowest rank.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from mpi4py import MPI

from syncbn.comm import SERIAL
from syncbn.experiments.compare import POOL
from syncbn.experiments.config import CompareConfig
from syncbn.experiments.networks import build_network
from syncbn.experiments.versions import versions
from syncbn.layers import Module, Parameter
from syncbn.nn import SGD, softmax_cross_entropy

CLASSES = 10
BUCKETS = (2, 4)


class WatchedParameter(Parameter):
    """A parameter that calls a function when its gradient is complete."""

    __slots__ = ("ready",)

    def __init__(self, data: np.ndarray) -> None:
        super().__init__(data)
        self.ready: Callable[[WatchedParameter], object] | None = None

    def add_grad(self, grad: np.ndarray) -> None:
        """Add the gradient and call ``ready``."""
        super().add_grad(grad)
        if self.ready is not None:
            self.ready(self)


class GradientSum:
    """Sum of gradients over ranks in ``buckets`` of similar sizes: 0 means no sum, 1 a sum after the backward pass."""

    def __init__(self, parameters: list[WatchedParameter], buckets: int, comm: MPI.Intracomm) -> None:
        self.parameters, self.buckets, self.comm = parameters, buckets, comm
        ends = np.cumsum([parameter.data.size for parameter in parameters])
        self.buffer = np.zeros(ends[-1], np.float32)
        pieces = zip(parameters, np.split(self.buffer, ends[:-1]), strict=True)
        self.views = {id(parameter): piece.reshape(parameter.data.shape) for parameter, piece in pieces}
        self.bucket_of = {
            id(parameter): int((end - 1) * buckets // ends[-1]) for parameter, end in zip(parameters, ends, strict=True)
        }
        sizes = np.bincount([self.bucket_of[id(p)] for p in parameters], [p.data.size for p in parameters])
        self.parts = np.split(self.buffer, np.cumsum(sizes, dtype=int)[:-1])

    def begin(self) -> None:
        """Clear the gradients; with several buckets, start each of them as soon as it is complete."""
        self.requests: list[MPI.Request] = []
        self.missing = [sum(b == bucket for b in self.bucket_of.values()) for bucket in range(len(self.parts))]
        for parameter in self.parameters:
            parameter.grad = None
            parameter.ready = self.start if self.buckets > 1 else None

    def start(self, parameter: WatchedParameter) -> None:
        """Copy the gradient, start complete buckets, and let MPI make progress, which it does only in calls."""
        self.views[id(parameter)][...] = parameter.grad
        bucket = self.bucket_of[id(parameter)]
        self.missing[bucket] -= 1
        if not self.missing[bucket]:
            self.requests.append(self.comm.Iallreduce(MPI.IN_PLACE, self.parts[bucket]))
        MPI.Request.Testall(self.requests)

    def finish(self) -> None:
        """Complete the sums and store them in the parameters."""
        if self.buckets == 0:
            return
        if self.buckets == 1:
            for parameter in self.parameters:
                self.views[id(parameter)][...] = parameter.grad
            self.comm.Allreduce(MPI.IN_PLACE, self.buffer)
        MPI.Request.Waitall(self.requests)
        for parameter in self.parameters:
            parameter.grad = self.views[id(parameter)]


def main() -> None:
    """Run the benchmark, print the table and append it to the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--append", type=Path, metavar="FILE", help="append the table to this file")
    options = parser.parse_args()
    comm = MPI.COMM_WORLD
    software = versions()
    lines = [
        f"{comm.size} ranks, one thread each, {software['cores']} cores, {software['cpu']}, {software['mpi_library']}",
        "",
        "network  batch/rank  gradients  step, one allreduce  share of it  "
        + "  ".join(f"{buckets} buckets/one" for buckets in BUCKETS),
    ]
    for network in ("mlp", "resnet"):
        for batch in CompareConfig.batches:
            lines.append(measure(network, batch, comm, options.rounds))
            if comm.rank == 0:
                print("\n".join(lines) if len(lines) == 4 else lines[-1], flush=True)
    if comm.rank == 0 and options.append:
        with options.append.open("a") as file:
            file.write("\n".join(lines) + "\n\n")


def measure(network: str, batch: int, comm: MPI.Intracomm, rounds: int) -> str:
    """Time alternating steps of all variants; return a row of the table."""
    size = 28 // POOL[network]
    rng = np.random.default_rng(comm.rank)
    x = rng.standard_normal((batch, 1, size, size), dtype=np.float32)
    labels = rng.integers(0, CLASSES, batch)
    model = build_network(network, "bn", 0, image_shape=(1, size, size), classes=CLASSES, comm=SERIAL)
    watch(model)
    order = order_of_gradients(model, x, labels)
    optimizer = SGD(order, 1e-4, 0.9)
    sums = {buckets: GradientSum(order, buckets, comm) for buckets in (0, 1, *BUCKETS)}

    def step(gradient_sum: GradientSum) -> None:
        gradient_sum.begin()
        logits, backward = model(x)
        backward(softmax_cross_entropy(logits, labels, batch * comm.size)[1])
        gradient_sum.finish()
        optimizer.step()

    times: dict[int, list[float]] = {buckets: [] for buckets in sums}
    repeats = 20 if network == "mlp" else 4
    for _ in range(rounds + 1):
        for buckets, gradient_sum in sums.items():
            comm.Barrier()
            start = time.perf_counter()
            for _ in range(repeats):
                step(gradient_sum)
            times[buckets].append(comm.allreduce(time.perf_counter() - start, MPI.MAX) / repeats)
    one = times[1][1:]
    ratio = {b: statistics.median(a / c for a, c in zip(t[1:], one, strict=True)) for b, t in times.items()}
    kibibytes, microseconds = sums[1].buffer.nbytes / 2**10, statistics.median(one) * 1e6
    return (
        f"{network:7s}  {batch:10d}  {kibibytes:5.0f} KiB  {microseconds:16.0f} µs  {1 - ratio[0]:11.0%}  "
        + "  ".join(f"{ratio[buckets]:13.2f}" for buckets in BUCKETS)
    )


def watch(model: Module) -> None:
    """Replace every parameter by a `WatchedParameter`."""
    for _, module in model.named_modules():
        for name, parameter in list(module.own_parameters()):
            setattr(module, name, WatchedParameter(parameter.data))


def order_of_gradients(model: Module, x: np.ndarray, labels: np.ndarray) -> list[WatchedParameter]:
    """Return the parameters in the order in which their gradients are completed, equal on all ranks."""
    order: list[WatchedParameter] = []
    for parameter in model.parameters():
        parameter.ready = order.append
    logits, backward = model(x)
    backward(softmax_cross_entropy(logits, labels)[1])
    return order


if __name__ == "__main__":
    main()
