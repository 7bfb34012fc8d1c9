"""Command lines: one line for what is wrong with them, from rank 0 alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from syncbn.cli import ranks


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line; ranks other than 0 print nothing."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 after one line on stderr."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        # All of argparse's output (help, version, errors) goes through here.
        if ranks.rank() == 0:
            super()._print_message(message, file)


def comma_list(convert: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Return a type for ``add_argument``: ``2,8,32`` becomes a tuple."""

    def parse(text: str) -> tuple[Any, ...]:
        return tuple(convert(word.strip()) for word in text.split(","))

    parse.__name__ = f"comma-separated list of {'numbers' if convert is int else 'words'}"
    return parse


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json [FILE]``: None where it was not given, "-" without a file."""
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print JSON instead of the text, or write it to FILE beside it",
    )


def add_ranks(parser: argparse.ArgumentParser, default: int) -> None:
    """Add ``--ranks``, which is None where it was not given; ``ranks_default`` is what to take then."""
    parser.add_argument(
        "--ranks",
        type=int,
        metavar="N",
        help=f"MPI ranks; starts mpiexec, unless already under one (default: {default}, or what mpiexec started)",
    )
    parser.set_defaults(ranks_default=default)
