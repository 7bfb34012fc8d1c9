"""Runs the tests in one process, then on 1, 2, 3 and 4 MPI ranks.

    python tests/run.py                                       all tests, as by `make test`
    python tests/run.py --ranks 2 tests/test_x.py -k uneven   one number of ranks; other arguments are passed to pytest

It runs `mpiexec -n N python -m mpi4py -m pytest` with the right mpiexec, or `python -m pytest` for 0 ranks. A run
passes if its exit code is 0 and every rank has completed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from syncbn.cli import completion
from syncbn.cli.errors import CommandError
from syncbn.cli.launch import run_on_ranks

NOTHING_RAN = 5
"""Exit status of pytest if no test was selected or all were skipped."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite on each number of ranks and return the exit code."""
    ranks, pytest_args = _arguments(argv)
    color = ["--color=yes"] if sys.stdout.isatty() else []
    codes = {}
    for n in ranks:
        _print(f"\n=== {_name(n)}: pytest {' '.join(pytest_args)}".rstrip())
        try:
            codes[n] = run_suite(n, [*color, *pytest_args])
        except CommandError as error:
            _print(f"{_name(n)}: {error}")
            codes[n] = 1
    failed = [n for n, code in codes.items() if code and not (code == NOTHING_RAN and pytest_args)]
    nothing = [n for n, code in codes.items() if code == NOTHING_RAN]
    for n in codes:
        _print(f"{_name(n):12}{'FAILED' if n in failed else 'no test ran' if n in nothing else 'ok'}")
    return int(bool(failed) or len(nothing) == len(codes))


def run_suite(ranks: int, pytest_args: Sequence[str]) -> int:
    """Run pytest on this number of ranks, 0 for one process without MPI, and return its exit status.

    Raises
    ------
    CommandError
        There is no mpiexec, or a rank has not completed, whatever the exit code is.
    """
    if ranks:
        return run_on_ranks(pytest_args, ranks, ("-m", "pytest"))
    with tempfile.TemporaryDirectory() as directory:
        environment = os.environ | {completion.VARIABLE: directory}
        subprocess.run([sys.executable, "-m", "pytest", *pytest_args], env=environment, check=False)
        (code,) = completion.read(Path(directory), 1)
    if code is None:
        raise CommandError("the process exited without completing")
    return code


def _arguments(argv: Sequence[str] | None) -> tuple[list[int], list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--ranks",
        nargs="+",
        default=["0", "1", "2", "3", "4"],
        metavar="N",
        help="numbers of ranks; 0 means one process without MPI (default: 0 1 2 3 4)",
    )
    options, rest = parser.parse_known_args(argv)
    # Words after the numbers are arguments of pytest: --ranks 2 tests/test_x.py
    numbers = [word for word in options.ranks if word.isdigit()]
    if not numbers:
        parser.error(f"--ranks takes numbers, got {options.ranks[0]!r}")
    return [int(word) for word in numbers], [word for word in options.ranks if not word.isdigit()] + rest


def _name(ranks: int) -> str:
    return f"{ranks} rank{'s' * (ranks > 1)}" if ranks else "one process"


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
