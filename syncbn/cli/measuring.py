"""The base class of commands that measure, and measurements in new processes."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from syncbn.cli.command import Command
from syncbn.cli.errors import UsageError, require
from syncbn.cli.launch import ranks_command, run_processes
from syncbn.cli.output import check_directory, check_json, show
from syncbn.cli.stages import Stages
from syncbn.experiments.config import counted
from syncbn.experiments.machine import load_average, memory_bytes
from syncbn.experiments.report import dumps, write_text

MAX_BATCH = 8192
"""Largest number of samples per rank."""

ARRAYS = 6
"""Arrays of the size of the batch that a measurement of a layer holds at the same time."""

PROGRAM = ("-m", "syncbn.cli.worker")


class Report(Protocol):
    """The results of a measuring command."""

    def as_text(self) -> str:
        """Return the results as text."""

    def as_json(self) -> dict[str, Any]:
        """Return the results as JSON values."""


class MeasuringCommand(Command):
    """A command whose measurements result in a report: text, JSON and a figure."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.load: float = load_average()  # before this command raises it
        super().__init__(options)
        require(options.prog.split()[-1], ("rich", "scipy", *(["matplotlib"] if options.output else [])))
        check_json(options.json)
        if options.output:
            check_directory(options.output)

    def stages(self, total: int) -> Stages:
        """Return the display of the stages of the work, on the stream that does not carry the results."""
        return Stages("stderr" if self.options.json == "-" else "stdout", total)

    def finish(self, report: Report, name: str, save_figure: Callable[[Path, Any], None]) -> int:
        """Print the report, write it to the directory of ``--output`` if given, and return the exit code."""
        text, found, files = report.as_text(), report.as_json(), {}
        if self.options.output:
            files = {
                self.options.output / f"{name}.txt": lambda path: write_text(path, text + "\n"),
                self.options.output / f"{name}.json": lambda path: write_text(path, dumps(found)),
                self.options.output / f"{name}.png": lambda path: save_figure(path, report),
            }
        show(text, found, self.options.json, files)
        return 0


def check_local_batches(network: str, shapes: Iterable[tuple[int, ...]]) -> None:
    """Raise UsageError if local batch normalization of a layer with these shapes has a single value per channel."""
    if any(math.prod(shape) == shape[1] for shape in shapes):
        raise UsageError(f"argument --batch: local BN of {network} needs at least 2 samples")


def check_memory(shapes: Iterable[tuple[int, ...]], ranks: int) -> None:
    """Raise UsageError if the layers of these shapes do not fit into the memory of this machine on so many ranks."""
    needed = ranks * ARRAYS * np.dtype(np.float32).itemsize * max(map(math.prod, shapes), default=0)
    if needed > memory_bytes():
        raise UsageError(
            f"argument --batch: the largest layer needs {needed / 2**30:,.1f} GiB of memory on "
            f"{counted(ranks, 'rank')}, this machine has {memory_bytes() / 2**30:,.1f} GiB"
        )


def measured(task: str, settings: Any, ranks: int = 1, environment: Mapping[str, str] | None = None) -> Any:
    """Run a task of `syncbn.cli.worker` in new processes on this machine and return its result.

    Parameters
    ----------
    task : str
        Key of `syncbn.cli.worker.TASKS`.
    settings : JSON value
        Arguments of the task.
    ranks : int
        Number of processes; 1 is a process without MPI.
    environment : mapping, optional
        Further environment variables of a process without MPI.

    Raises
    ------
    CommandError
        A process failed.
    """
    arguments = [task, json.dumps(settings)]
    if ranks > 1:
        command, variables = ranks_command(arguments, ranks, PROGRAM)
    else:
        command, variables = [sys.executable, *PROGRAM, *arguments], dict(environment or {})
    return json.loads(run_processes(command, variables, ranks).result)
