"""``syncbn compare``: trains one network with each normalizer and reports when synchronization is worth it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from syncbn import data
from syncbn._core.checks import REDUCTIONS
from syncbn.cli.command import Command
from syncbn.cli.errors import UsageError, require
from syncbn.cli.locked import locked
from syncbn.cli.output import check_directory, check_json, show
from syncbn.cli.parser import add_json, add_ranks, comma_list, directory, file_name, integer, number
from syncbn.cli.progress import make_observer
from syncbn.comm import Communicator
from syncbn.experiments.compare import check_images, compare
from syncbn.experiments.config import LR_BATCH, NETWORKS, CompareConfig
from syncbn.experiments.normalizers import NORMALIZERS
from syncbn.experiments.report import Report

MAX_EPOCHS, MAX_SEEDS, MAX_SAMPLES, MAX_LR = 1_000_000, 10_000, 10**9, 1e30

DESCRIPTION = """\
Train the same network with each normalizer, at each batch per rank and with
several seeds, and compare the test errors. Prints a table and a verdict, and
writes compare.json (all numbers), compare.txt and compare.png.
"""

EPILOG = (
    "normalizers:\n"
    + "".join(f"  {name:<8}{entry.title}\n" for name, entry in NORMALIZERS.items())
    + """
Ctrl-C or SIGTERM ends the comparison; compare.json then has the runs that are
complete. A draft compare.json.*.partial, which a killed comparison may leave, is
removed by the next one. A second comparison in the same directory is refused
while the first one is running; later, it renames the files of the first one to
previous-compare.json, and so on.

examples:
  syncbn compare --ranks 4 --output results
  syncbn compare --norms bn,syncbn,gn --network resnet --batches 1,2 --ranks 4
  mpiexec -n 4 syncbn compare --json > results.json
"""
)


def add_parser(subparsers: Any) -> None:
    """Add this command to the subcommands."""
    parser = subparsers.add_parser(
        "compare", help="compare normalizers on real images", description=DESCRIPTION, epilog=EPILOG
    )
    default = CompareConfig()
    add = parser.add_argument
    add_ranks(parser, default=4)
    add("--norms", type=comma_list(str), default=default.norms, metavar="LIST",
        help=f"normalizers (default: {','.join(default.norms)})")  # fmt: skip
    add("--batches", type=comma_list(integer(MAX_SAMPLES)), default=default.batches, metavar="LIST",
        help=f"samples per rank and step (default: {','.join(map(str, default.batches))})")  # fmt: skip
    add("--network", default=default.network, metavar="NAME",
        help=f"{' or '.join(NETWORKS)} (default: %(default)s)")  # fmt: skip
    add("--epochs", type=integer(MAX_EPOCHS), default=default.epochs, metavar="N",
        help="passes over the data (default: %(default)s)")  # fmt: skip
    add("--seeds", type=integer(MAX_SEEDS), default=default.seeds, metavar="K",
        help="number of seeds (default: %(default)s)")  # fmt: skip
    add("--lr", type=comma_list(number(0, MAX_LR)), default=default.lr, metavar="LIST",
        help=f"learning rates, for a global batch of {LR_BATCH}; they grow with it (default: "
        f"{','.join(f'{lr:g}' for lr in default.lr)})")  # fmt: skip
    add("--data", type=file_name, default=default.data, metavar="NAME",
        help="fashion-mnist-10k, fashion-mnist, or a directory: idx or CIFAR-10 (default: %(default)s)")  # fmt: skip
    add("--train-samples", type=integer(MAX_SAMPLES), metavar="N", help="use only the first N training images")
    add("--test-samples", type=integer(MAX_SAMPLES), metavar="N", help="use only the first N test images")
    add("--reduction", default=default.reduction, metavar="NAME",
        help=f"sums of SyncBN: {' or '.join(REDUCTIONS)} (default: %(default)s)")  # fmt: skip
    add("--output", type=directory, default=Path("syncbn-compare"), metavar="DIR",
        help="directory for the files (default: %(default)s)")  # fmt: skip
    add_json(parser)
    parser.set_defaults(command=CompareCommand, prog=parser.prog)


class CompareCommand(Command):
    """The compare command: runs the comparison, shows its progress and prints the results."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        require("compare", ("rich", "matplotlib", "scipy"))
        names = CompareConfig.__dataclass_fields__.keys() & vars(options).keys()
        try:
            self.config: CompareConfig = CompareConfig(**{name: getattr(options, name) for name in names})
            dataset = data.load(self.config.data)
            self.dataset: data.Dataset = dataset.first(self.config.train_samples, self.config.test_samples)
            self.config.check_batches(self.ranks, len(self.dataset.x_train))
            check_images(self.config, self.dataset)
        except (ValueError, OSError) as error:
            raise UsageError(str(error)) from error
        check_json(options.json)
        check_directory(options.output)

    def run(self, comm: Communicator) -> int:
        """Run the comparison and print the results on rank 0. Collective."""
        with locked(self.options.output, comm, "a comparison"):
            if comm.rank == 0:
                self._run_and_show(comm)
            else:
                compare(self.config, self.dataset, comm)
        return 0

    def _run_and_show(self, comm: Communicator) -> None:
        observer = make_observer("stderr" if self.options.json == "-" else "stdout", len(self.config.lr))
        report = Report(self.options.output, self.config, comm.size, self.dataset.name)
        compare(self.config, self.dataset, comm, observer, report.add)
        show(f"\n{report.as_text()}", report.as_json(complete=True), self.options.json, report.files)

    def interrupted(self) -> str:
        """Return the message after Ctrl-C, with the number of saved runs."""
        path = self.options.output / "compare.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            done = 0 if found["complete"] else len(found["runs"])  # a complete file is from an earlier comparison
        except (OSError, ValueError, KeyError):
            done = 0
        return f"interrupted; complete runs: {done}" + (f", saved in {path}" if done else "")
