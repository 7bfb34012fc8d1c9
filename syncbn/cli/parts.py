"""What is seen while something is measured: a bar on a terminal, one line for each part elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from syncbn.cli import terminal


class Parts:
    """Names the parts of the work as they begin.

    Parameters
    ----------
    name : {"stdout", "stderr"}
        Where to.
    total : int
        How many parts there are.
    """

    def __init__(self, name: terminal.StreamName, total: int) -> None:
        self.stream = terminal.stream(name)
        self.columns = terminal.columns(name)
        self.total = total
        self.begun = 0

    @contextmanager
    def shown(self) -> Iterator[Parts]:
        """Show the bar as long as the work lasts."""
        if self.columns is None:
            yield self
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.progress = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=Console(file=self.stream, force_terminal=True, width=self.columns),
            transient=True,
            expand=True,
        )
        self.task = self.progress.add_task("", total=self.total)
        with self.progress:
            yield self

    def begin(self, description: str) -> None:
        """Say which part begins; the one before is done."""
        self.begun += 1
        if self.columns is None:
            self.stream.write(f"[{self.begun}/{self.total}] {description}\n")
            self.stream.flush()
        else:
            self.progress.update(self.task, completed=self.begun - 1, description=description)
