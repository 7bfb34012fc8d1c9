"""Starts the measuring processes of each pass and collects their output."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from environment import VARIABLES
from results import Measurement, Results
from sections import SECTIONS

from syncbn.cli.mpiexec import mpiexec_command
from syncbn.cli.session import session

MEASURE = Path(__file__).with_name("measure.py")
MAX_SECONDS = 600.0
"""Time limit of a process, which ends ranks in a deadlock."""

Show = Callable[[int, Measurement], None]


class MeasurementError(Exception):
    """A measuring process failed; its message is on stderr."""


def run(sections: Sequence[str], passes: int, rounds: int, show: Show) -> Results:
    """Measure every section in every pass, each time in new processes.

    Parameters
    ----------
    sections : sequence of str
        Keys of `SECTIONS`.
    passes, rounds : int
    show : callable
        Called with the number of the pass and each measurement.

    Raises
    ------
    MeasurementError
        Candidates disagree or use too many threads, or a process failed.
    """
    results = Results()
    for number in range(passes):
        for command, environment in _commands(sections, rounds, first=number == 0):
            for line in _output(command, environment):
                show(number, results.add(json.loads(line)))
    return results


def _commands(sections: Sequence[str], rounds: int, first: bool) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yield the command and environment of each process of a pass, one for each number of ranks."""
    by_ranks: dict[int, list[str]] = {}
    for name in sections:
        if first or not SECTIONS[name].once:
            for ranks in SECTIONS[name].ranks:
                by_ranks.setdefault(ranks, []).append(name)
    for ranks, names in sorted(by_ranks.items()):
        arguments = [str(MEASURE), "--rounds", str(rounds), *names]
        if ranks == 0:
            yield [sys.executable, *arguments], {}
        else:
            launcher, environment = mpiexec_command(ranks)
            yield [*launcher, sys.executable, "-m", "mpi4py", *arguments, "--mpi"], environment


def _output(command: list[str], environment: dict[str, str]) -> Iterator[str]:
    """Run a command and yield the lines of its output."""
    with session(command, VARIABLES | environment, stdout=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(MAX_SECONDS, process.terminate)
        watchdog.start()
        try:
            yield from process.stdout
        finally:
            watchdog.cancel()
    if process.returncode:
        raise MeasurementError(f"exit code {process.returncode} of {' '.join(command)}")
