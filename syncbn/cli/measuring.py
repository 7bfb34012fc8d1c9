"""What commands that measure share, also with other numbers of ranks or threads than this process has."""

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
from syncbn.cli.parts import Parts
from syncbn.experiments.machine import load_average
from syncbn.experiments.report import dumps

PROGRAM = ("-m", "syncbn.cli.worker")


class Report(Protocol):
    """What came of measuring."""

    def as_text(self) -> str:
        """Return what people read."""

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""


class MeasuringCommand(Command):
    """A command that measures, and gives a report: a text, JSON and a picture."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.load = load_average()  # before this command adds to it
        super().__init__(options)
        require(options.prog.split()[-1], ("rich", "scipy", *(["matplotlib"] if options.output else [])))
        check_json(options.json)
        if options.output:
            check_directory(options.output)

    def parts(self, total: int) -> Parts:
        """Return what shows the parts of the work as they begin, where it doesn't mix with the result."""
        return Parts("stderr" if self.options.json == "-" else "stdout", total)

    def finish(self, report: Report, name: str, save_figure: Callable[[Path, Any], None]) -> int:
        """Print the report, write it to the directory if there is one, and return the exit code."""
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


def measured(what: str, settings: Any, ranks: int = 1, environment: Mapping[str, str] | None = None) -> Any:
    """Do a piece of work of `syncbn.cli.worker` in so many new processes of this machine, and return its result.

    Parameters
    ----------
    what : str
        Which piece.
    settings : JSON value
        Its arguments.
    ranks : int
        1 is a process without MPI.
    environment : mapping, optional
        Further variables of a process without MPI.

    Raises
    ------
    CommandError
        It did not come to its end.
    """
    with tempfile.TemporaryDirectory(prefix="syncbn-") as directory:
        file = Path(directory, "result")
        arguments = [what, json.dumps(settings), str(file)]
        if ranks > 1:
            run_on_ranks(arguments, ranks, PROGRAM)
        else:
            command = [sys.executable, *PROGRAM, *arguments]
            done = subprocess.run(command, env=os.environ | dict(environment or {}), check=False)
            if done.returncode:
                raise CommandError(f"a process that measures {what} ended with exit code {done.returncode}")
        return json.loads(file.read_text(encoding="utf-8"))
