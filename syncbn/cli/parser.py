"""The command line parser: it reports errors in one line, on rank 0 only."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from syncbn.cli import ranks


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with one-line errors; only rank 0 prints."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 after one line on stderr."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse prints help, version and errors with this method.
        if ranks.rank() == 0:
            super()._print_message(message, file)


def comma_list(convert: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Return a type for ``add_argument`` that converts ``2,8,32`` to a tuple."""

    def parse(text: str) -> tuple[Any, ...]:
        return tuple(convert(word.strip()) for word in text.split(","))

    parse.__name__ = f"comma-separated list of {'numbers' if convert is int else 'words'}"
    return parse


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json [FILE]``: None if the option is absent, "-" if it has no FILE."""
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print JSON instead of text, or write it to FILE in addition to the text",
    )


def add_ranks(parser: argparse.ArgumentParser, default: int) -> None:
    """Add ``--ranks``: None if the option is absent; its default is then in ``ranks_default``."""
    parser.add_argument(
        "--ranks",
        type=int,
        metavar="N",
        help=f"number of MPI ranks; starts mpiexec unless run by it (default: {default}, or that of mpiexec)",
    )
    parser.set_defaults(ranks_default=default)
