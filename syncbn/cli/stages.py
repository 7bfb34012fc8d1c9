"""Progress of a measuring command: a bar on a terminal, one line per stage elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from syncbn.cli import terminal


class Stages:
    """The stages of the work, each shown when it begins.

    Parameters
    ----------
    name : {"stdout", "stderr"}
        Stream to write to.
    total : int
        Number of stages.
    """

    def __init__(self, name: terminal.StreamName, total: int) -> None:
        self.stream: TextIO = terminal.stream(name)
        self.columns: int | None = terminal.columns(name)
        self.total = total
        self.begun: int = 0

    @contextmanager
    def shown(self) -> Iterator[Stages]:
        """Show the bar during the ``with`` block."""
        if self.columns is None:
            yield self
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.progress = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=terminal.console(self.stream, self.columns),
            transient=True,
            expand=True,
        )
        self.task = self.progress.add_task("", total=self.total)
        with self.progress:
            yield self

    def begin(self, description: str) -> None:
        """Show that a stage begins and that the previous one is done."""
        self.begun += 1
        if self.columns is None:
            self.stream.write(f"[{self.begun}/{self.total}] {description}\n")
            self.stream.flush()
        else:
            self.progress.update(self.task, completed=self.begun - 1, description=description)
