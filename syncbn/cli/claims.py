"""``syncbn claims``: measures what is said about batch normalization on real images, with a verdict for each claim."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from syncbn import __version__, data
from syncbn.cli import ranks
from syncbn.cli.command import Command
from syncbn.cli.errors import UsageError, require
from syncbn.cli.locked import locked
from syncbn.cli.output import check_directory, check_json, show
from syncbn.cli.parser import add_json, add_ranks, comma_list, directory, file_name, integer
from syncbn.cli.pieces import make_progress
from syncbn.comm import Communicator
from syncbn.experiments.claims import CLAIMS
from syncbn.experiments.claims.claim import Claim
from syncbn.experiments.claims.report import ClaimsReport
from syncbn.experiments.claims.runner import run_claims
from syncbn.experiments.claims.setup import SEARCH_SEED, SEEDS, Effort, Setup, check_images, fingerprint
from syncbn.experiments.claims.store import Store

DESCRIPTION = """\
Measure claims about batch normalization on real images: each with a question, a
method, charts, 95 % intervals over seeds, and a verdict whose rule is fixed in the
code. Some rules were changed after a first run with --quick had been seen: the
report says which, and docs/claims.md how. Writes claims.json (all numbers),
claims.txt, charts as PNG and SVG, and report.html, a page that needs no other file.
"""

EPILOG = (
    "claims:\n"
    + "".join(f"  {name:<17}{claim.title}\n" for name, claim in CLAIMS.items())
    + """
Finished pieces are kept in DIR/pieces: an interrupted run continues where it was,
and a run with more claims or seeds measures only the new ones. To measure again,
remove that directory.

examples:
  syncbn claims --ranks 4 --quick --output claims
  syncbn claims learning-rate exact --ranks 4 --seeds 5,6,7,8,9 --output claims
  syncbn claims --list
"""
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command to the subcommands."""
    parser = subparsers.add_parser(
        "claims", help="measure claims about batch normalization", description=DESCRIPTION, epilog=EPILOG
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="claims (default: all)")
    add_ranks(parser, default=4)
    add("--quick", action="store_true", help="less data and fewer seeds: under 15 minutes on 2 cores")
    add("--smoke", action="store_true", help=argparse.SUPPRESS)
    add("--list", action="store_true", help="print the claims and exit")
    add("--seeds", type=comma_list(integer(SEARCH_SEED - 1)), metavar="LIST",
        help=f"seeds (default: {_text(SEEDS['full'])}, with --quick {_text(SEEDS['quick'])})")  # fmt: skip
    add("--data", type=file_name, default="fashion-mnist-10k", metavar="NAME",
        help="fashion-mnist-10k, fashion-mnist, or a directory: idx or CIFAR-10 (default: %(default)s)")  # fmt: skip
    add("--output", type=directory, default=Path("syncbn-claims"), metavar="DIR",
        help="directory for the files (default: %(default)s)")  # fmt: skip
    add_json(parser)
    parser.set_defaults(command=ClaimsCommand, prog=parser.prog)


class ClaimsCommand(Command):
    """The claims command: measures, shows the progress, and prints the verdicts."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        names = list(dict.fromkeys(options.names))
        unknown = [name for name in names if name not in CLAIMS]
        if unknown:
            raise UsageError(f"unknown claim {unknown[0]!r} (choose from {', '.join(CLAIMS)})")
        self.claims: list[Claim[Any]] = [CLAIMS[name] for name in names or CLAIMS]
        if options.list:
            return
        require("claims", ("rich", "matplotlib", "scipy"))
        if options.quick and options.smoke:
            raise UsageError("arguments --quick and --smoke: give one of them")
        effort: Effort = "smoke" if options.smoke else "quick" if options.quick else "full"
        try:
            self.dataset: data.Dataset = data.load(options.data)
            check_images(self.dataset, effort)
        except (ValueError, OSError) as error:
            raise UsageError(str(error)) from error
        seeds = SEEDS[effort] if options.seeds is None else options.seeds
        if min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise UsageError(f"argument --seeds: must be different numbers from 0, got {_text(seeds)!r}")
        self.setup: Setup = Setup(effort, tuple(seeds), self.ranks, len(self.dataset.class_names))
        try:
            for claim in self.claims:
                claim.check(self.setup)
        except ValueError as error:
            raise UsageError(str(error)) from error
        check_json(options.json)
        check_directory(options.output)

    def start(self, arguments: Sequence[str]) -> int:
        """Print the list, or measure on the ranks."""
        if not self.options.list:
            return super().start(arguments)
        if ranks.rank() == 0:
            text = "\n".join(f"{claim.name:<17}{claim.statement}" for claim in self.claims)
            listed = [{"name": claim.name, "statement": claim.statement} for claim in self.claims]
            show(text, {"claims": listed}, self.options.json)
        return 0

    def run(self, comm: Communicator) -> int:
        """Measure the claims and print the verdicts on rank 0. Collective."""
        with locked(self.options.output, comm, "claims"):
            if comm.rank == 0:
                self._run_and_show(comm)
            else:
                run_claims(self.claims, self.setup, self.dataset, comm)
        return 0

    def _run_and_show(self, comm: Communicator) -> None:
        output = self.options.output
        identity = {"data": fingerprint(self.dataset), "version": __version__}
        store = Store(output / "pieces", self.setup, identity)
        report = ClaimsReport(output, self.setup, self.dataset.name, source=self.options.data)
        progress = make_progress("stderr" if self.options.json == "-" else "stdout")
        run_claims(self.claims, self.setup, self.dataset, comm, store, progress, report.add)
        show(f"\n{report.as_text()}", report.as_json(complete=True), self.options.json, report.files)

    def interrupted(self) -> str:
        """Return the message after Ctrl-C, with the number of kept pieces."""
        kept = sum(1 for _ in (self.options.output / "pieces").glob("*/*.json"))
        return f"interrupted; pieces kept in {self.options.output / 'pieces'}: {kept}; the same command continues"


def _text(seeds: Sequence[int]) -> str:
    return ",".join(map(str, seeds))
