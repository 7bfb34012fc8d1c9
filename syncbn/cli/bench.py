"""``syncbn bench``: time of batch normalization and its messages on this machine, and advice based on it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from syncbn._core.threads import usable_cores
from syncbn.cli import ranks
from syncbn.cli.errors import UsageError
from syncbn.cli.launch import THREAD_VARIABLES
from syncbn.cli.measuring import MAX_BATCH, MeasuringCommand, check_local_batches, check_memory, measured
from syncbn.cli.parser import add_json, add_ranks, directory, integer
from syncbn.comm import Communicator
from syncbn.experiments.bench.figure import save_figure
from syncbn.experiments.bench.kernels import SHAPES
from syncbn.experiments.bench.report import BenchReport
from syncbn.experiments.bn_layers import NETWORKS
from syncbn.experiments.scale.measurement import CALLS, ROUNDS, Measurement, measure

MAX_ROUNDS = 10_000

DESCRIPTION = """\
Measure the kernels against the machine's copy speed (in one process, with 1 thread up to all
cores), allreduces by size, and the time that SyncBN adds to the layers of a network; then advise on
threads, ranks, group size and reduction, with the rule behind each advice. Takes less than a minute.
"""

EPILOG = """\
Under mpiexec the command measures only the ranks, not the kernels of one process.

example:
  syncbn bench --ranks 2 --output bench
"""


def add_parser(subparsers: Any) -> None:
    """Add this command to the subcommands."""
    parser = subparsers.add_parser(
        "bench", help="measure kernels, messages and layers, and advise", description=DESCRIPTION, epilog=EPILOG
    )
    add = parser.add_argument
    add_ranks(parser, default=2)
    add("--network", default="resnet50", metavar="NAME", help=f"{', '.join(NETWORKS)} (default: %(default)s)")
    add("--batch", type=integer(MAX_BATCH), default=2, metavar="N", help="samples per rank (default: %(default)s)")
    add(
        "--rounds",
        type=integer(MAX_ROUNDS),
        default=ROUNDS,
        metavar="N",
        help="rounds of each median (default: %(default)s)",
    )
    add("--output", type=directory, metavar="DIR", help="directory for bench.txt, bench.json and bench.png")
    add_json(parser)
    parser.set_defaults(command=BenchCommand, prog=parser.prog)


class BenchCommand(MeasuringCommand):
    """The bench command: measures, advises and prints."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        if options.network not in NETWORKS:
            raise UsageError(f"unknown network {options.network!r} (choose from {', '.join(NETWORKS)})")
        for name in ("batch", "rounds"):
            if getattr(options, name) < 1:
                raise UsageError(f"argument --{name}: must be at least 1, got {getattr(options, name)}")
        layers = NETWORKS[options.network]
        self.shapes: dict[tuple[int, ...], int] = {(options.batch, *shape): count for shape, count in layers.items()}
        check_local_batches(options.network, self.shapes)
        check_memory(self.shapes, self.ranks)

    def launch(self, arguments: Sequence[str]) -> int:  # noqa: ARG002 (the worker processes get settings instead)
        """Measure the kernels with each number of threads and then the ranks, each in new processes."""
        return self._measure()

    def run(self, comm: Communicator) -> int:
        """Measure the ranks of ``comm``; without mpiexec also the kernels, in new processes. Collective."""
        if comm.size == 1 and not ranks.under_mpiexec():
            return self._measure()
        measurement = measure(comm, self.shapes, rounds=self.options.rounds)
        return self._finish([], measurement) if comm.rank == 0 else 0

    def _measure(self) -> int:
        counts = thread_counts(usable_cores())
        with self.stages(len(counts) + 1).shown() as stages:
            kernels: list[dict[str, Any]] = []
            for threads in counts:
                stages.begin(f"kernels with {threads} thread{'s' * (threads > 1)}")
                settings = {"shapes": SHAPES, "threads": threads, "rounds": self.options.rounds}
                kernels += measured("kernels", settings, environment=dict.fromkeys(THREAD_VARIABLES, str(threads)))
            stages.begin(f"layers of {self.options.network} on {self.ranks} rank{'s' * (self.ranks > 1)}")
            settings = {"shapes": list(self.shapes.items()), "rounds": self.options.rounds, "calls": CALLS}
            measurement = Measurement.from_json(measured("ranks", settings, self.ranks))
        return self._finish(kernels, measurement)

    def _finish(self, kernels: list[dict[str, Any]], measurement: Measurement) -> int:
        layers = sum(self.shapes.values())
        report = BenchReport(self.options.network, self.options.batch, layers, kernels, measurement, self.load)
        return self.finish(report, "bench", save_figure)


def thread_counts(cores: int) -> list[int]:
    """Return the powers of two below the number of cores, and that number."""
    return [*(2**power for power in range((cores - 1).bit_length())), cores]
