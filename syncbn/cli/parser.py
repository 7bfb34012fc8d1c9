"""The command line parser: it reports errors in one line, on rank 0 only."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from syncbn.cli import ranks
from syncbn.cli.errors import report_error


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with one-line errors; only rank 0 prints."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 after one line on stderr."""
        self.exit(report_error(self.prog, message, 2))

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse prints help and version with this method.
        if ranks.rank() == 0:
            super()._print_message(message, file)


def integer(maximum: int) -> Callable[[str], int]:
    """Return a type for ``add_argument``: an integer that is not absurdly large."""

    def parse(text: str) -> int:
        value = int(text)
        if value > maximum:
            raise argparse.ArgumentTypeError(f"must be at most {maximum:,}, got {text}")
        return value

    parse.__name__ = "int"  # of argparse's message for a ValueError
    return parse


def number(minimum: float, maximum: float = 1e9) -> Callable[[str], float]:
    """Return a type for ``add_argument``: a number of a range in which computations do not overflow."""

    def parse(text: str) -> float:
        value = float(text)
        if not minimum <= value <= maximum:  # NaN too
            raise argparse.ArgumentTypeError(f"must be a number from {minimum:g} to {maximum:g}, got {text}")
        return value

    parse.__name__ = "float"
    return parse


def file_name(text: str) -> str:
    """Return the name of a file or directory, which must not be empty."""
    if not text:
        raise argparse.ArgumentTypeError("needs a name, got ''")
    return text


def directory(text: str) -> Path:
    """Return the path of a directory, whose name must not be empty."""
    return Path(file_name(text))


def comma_list(convert: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Return a type for ``add_argument`` that converts ``2,8,32`` to a tuple."""

    def parse(text: str) -> tuple[Any, ...]:
        return tuple(_converted(convert, word.strip(), text) for word in text.split(","))

    return parse


def _converted(convert: Callable[[str], Any], word: str, text: str) -> Any:
    try:
        return convert(word)
    except ValueError:
        place = f" in {text!r}" if "," in text else ""
        raise argparse.ArgumentTypeError(f"invalid {convert.__name__} value: {word!r}{place}") from None


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json [FILE]``: None if the option is absent, "-" if it has no FILE."""
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        type=file_name,
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
