"""Progress of work in pieces: a bar with the time that is left on a terminal, one line per piece elsewhere."""

from __future__ import annotations

import time
from typing import TextIO

from syncbn.cli import terminal
from syncbn.cli.terminal import StreamName
from syncbn.experiments.progress import Progress

WINDOW_SECONDS = 60.0
"""The remaining time is estimated from the speed in this period."""

MIN_DESCRIPTION, MAX_DESCRIPTION = 28, 48
"""Widths of the name of the current piece."""

OTHER_COLUMNS = 56
"""Width of the numbers and of a short bar."""


def make_progress(name: StreamName) -> Progress:
    """Return a bar if the stream is a terminal, otherwise lines."""
    return LineProgress(name) if terminal.columns(name) is None else BarProgress(name)


class LineProgress(Progress):
    """Progress as a line for each piece, or some in parallel, with an estimate of the time that is left."""

    def __init__(self, name: StreamName) -> None:
        self.stream: TextIO = terminal.stream(name)
        self.pieces: int = 0
        self.done: int = 0
        self.cost: float = 0.0
        self.done_cost: float = 0.0
        self.new_cost: float = 0.0
        self.start: float = 0.0

    def begin(self, pieces: int, cost: float) -> None:
        """Store the size of the work."""
        self.pieces, self.cost, self.start = pieces, cost, time.monotonic()

    def extend(self, pieces: int, cost: float) -> None:
        """Add to the size of the work."""
        self.pieces += pieces
        self.cost += cost

    def show(self, description: str) -> None:
        """Write the line."""
        number = f"{self.done + 1:{len(str(self.pieces))}}/{self.pieces}"
        self.stream.write(f"[{number}] {description}{self._left()}\n")
        self.stream.flush()

    def advance(self, pieces: int, cost: float, *, kept: bool = False) -> None:
        """Count pieces."""
        self.done += pieces
        self.done_cost += cost
        self.new_cost += 0.0 if kept else cost

    def _left(self) -> str:
        if not self.new_cost:
            return ""
        seconds = (time.monotonic() - self.start) / self.new_cost * (self.cost - self.done_cost)
        return f" (about {seconds / 60:.0f} min left)" if seconds >= 90 else f" (about {seconds:.0f} s left)"


class BarProgress(Progress):
    """Progress as a bar, with the current piece and the time that is left.

    Parameters
    ----------
    name : {"stdout", "stderr"}
        Stream to write to, a terminal.
    noun : str
        Plural of what is counted.
    """

    def __init__(self, name: StreamName, noun: str = "pieces") -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = terminal.columns(name) or 80
        self.width: int = max(MIN_DESCRIPTION, min(MAX_DESCRIPTION, columns - OTHER_COLUMNS))
        self.bar = Bar(
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[done]}/{task.fields[pieces]} " + noun),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=terminal.console(terminal.stream(name), columns),
            transient=True,
            expand=True,
            speed_estimate_period=WINDOW_SECONDS,
        )
        self.task = self.bar.add_task("", total=None, done=0, pieces=0)
        self.pieces: int = 0
        self.done: int = 0
        self.cost: float = 0.0

    def begin(self, pieces: int, cost: float) -> None:
        """Start the bar."""
        self.extend(pieces, cost)
        self.bar.start()

    def extend(self, pieces: int, cost: float) -> None:
        """Add to the size of the bar."""
        self.pieces += pieces
        self.cost += cost
        self.bar.update(self.task, total=self.cost, pieces=self.pieces)

    def show(self, description: str) -> None:
        """Show the piece next to the bar."""
        self.bar.update(self.task, description=description[: self.width].ljust(self.width))

    def advance(self, pieces: int, cost: float, *, kept: bool = False) -> None:  # noqa: ARG002 (the estimate forgets)
        """Advance the bar."""
        self.done += pieces
        self.bar.update(self.task, advance=cost, done=self.done)

    def end(self) -> None:
        """Remove the bar."""
        self.bar.stop()
