"""Runs the tests in one process, then on 1, 2, 3 and 4 MPI ranks.

    python tests/run.py                                       all tests, as by `make test`
    python tests/run.py --ranks 2 tests/test_x.py -k uneven   one number of ranks; other arguments are passed to pytest

The output of rank 0 is shown; that of the others is in test-logs/ranks-N/rank-R.log, whose end is shown after a
failure. A run passes if its exit code is 0 and all ranks report equal numbers of tests, none of which failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.launch import run_suite
from harness.outcome import Outcome

from syncbn.cli.errors import CommandError

ROOT = Path(__file__).resolve().parents[1]
TAIL_LINES = 60


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite on each number of ranks and return the exit code."""
    ranks, pytest_args = _arguments(argv)
    color = ["--color=yes"] if sys.stdout.isatty() else []
    outcomes = []
    for n in ranks:
        _print(f"\n=== {_name(n)}: pytest {' '.join(pytest_args)}".rstrip() + "\n")
        try:
            outcome = run_suite(n, ROOT, ROOT / f"test-logs/ranks-{n}", [*color, *pytest_args], show=_print)
        except CommandError as error:
            _print(f"{error}\n")
            return 2
        if _status(outcome, pytest_args) == "FAILED":
            _show_failures(outcome)
        outcomes.append(outcome)
    _print("\n" + "".join(_summary(outcome, pytest_args) for outcome in outcomes))
    failed = any(_status(outcome, pytest_args) == "FAILED" for outcome in outcomes)
    return int(failed or not any(outcome.ran for outcome in outcomes))


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


def _status(outcome: Outcome, pytest_args: list[str]) -> str:
    """Return ok, FAILED, or "nothing selected", which is not a failure if the caller selected tests."""
    if pytest_args and outcome.selected_nothing:
        return "nothing selected"
    return "FAILED" if outcome.problems else "ok"


def _show_failures(outcome: Outcome) -> None:
    for problem in outcome.problems:
        _print(f"{_name(outcome.ranks)}: {problem}\n")
    for rank in outcome.failed_ranks:
        log = outcome.logs / f"rank-{rank}.log"
        if rank and log.exists():  # that of rank 0 has been shown
            lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
            _print(f"\n--- end of {log.relative_to(ROOT)}\n" + "\n".join(lines) + "\n")


def _summary(outcome: Outcome, pytest_args: list[str]) -> str:
    counts = ", ".join(
        f"{count} {name}"
        for name in ("passed", "failed", "skipped", "xfailed", "xpassed")
        if (count := outcome.count(name)) or name == "passed"
    )
    status = _status(outcome, pytest_args)
    reason = f"  ({outcome.problems[0]})" if status == "FAILED" else ""
    return f"{_name(outcome.ranks):12}{status:16} {counts}  in {outcome.seconds:.0f} s{reason}\n"


def _name(ranks: int) -> str:
    return f"{ranks} rank{'s' * (ranks > 1)}" if ranks else "one process"


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
