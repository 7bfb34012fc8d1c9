"""The base class of commands that measure, and measurements in new processes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from syncbn.cli.command import Command
from syncbn.cli.errors import CommandError, require
from syncbn.cli.launch import run_on_ranks
from syncbn.cli.output import check_directory, check_json, show
from syncbn.cli.stages import Stages
from syncbn.experiments.machine import load_average
from syncbn.experiments.report import dumps

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
        self.load = load_average()  # before this command raises it
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
        text, found = report.as_text(), report.as_json()

        def write() -> list[Path]:
            if not self.options.output:
                return []
            paths = [self.options.output / f"{name}.{end}" for end in ("txt", "json", "png")]
            paths[0].write_text(text + "\n", encoding="utf-8")
            paths[1].write_text(dumps(found), encoding="utf-8")
            save_figure(paths[2], report)
            return paths

        show(text, found, self.options.json, write)
        return 0


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
    with tempfile.TemporaryDirectory(prefix="syncbn-") as directory:
        file = Path(directory, "result")
        arguments = [task, json.dumps(settings), str(file)]
        if ranks > 1:
            run_on_ranks(arguments, ranks, PROGRAM)
        else:
            command = [sys.executable, *PROGRAM, *arguments]
            done = subprocess.run(command, env=os.environ | dict(environment or {}), check=False)
            if done.returncode:
                raise CommandError(f"the process that measures {task} failed with exit code {done.returncode}")
        return json.loads(file.read_text(encoding="utf-8"))
