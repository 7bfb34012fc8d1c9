"""Progress of a comparison: a bar on a terminal, one line per run elsewhere."""

from __future__ import annotations

from typing import TextIO

from syncbn.cli import terminal
from syncbn.experiments.normalizers import NORMALIZERS
from syncbn.experiments.observer import Observer
from syncbn.experiments.results import Run

WINDOW_SECONDS = 60.0
"""The remaining time is estimated from the speed in this period, which covers all normalizers and batches."""


def make_observer(name: terminal.StreamName) -> Observer:
    """Return a bar if the stream is a terminal, otherwise lines."""
    columns = terminal.columns(name)
    stream = terminal.stream(name)
    return LineObserver(stream) if columns is None else BarObserver(stream, columns)


def describe(run: Run) -> str:
    """Return a run's name, such as ``BN, 2 per rank, seed 0``."""
    return f"{NORMALIZERS[run.norm].label}, {run.batch} per rank, seed {run.seed}"


class LineObserver(Observer):
    """An observer that writes a line for each complete run."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.done = self.runs = 0

    def begin(self, runs: int, steps: int) -> None:  # noqa: ARG002 (only the bar needs steps)
        """Store the number of runs."""
        self.runs = runs

    def end_run(self, run: Run) -> None:
        """Write the line of the run."""
        self.done += 1
        number = f"{self.done:{len(str(self.runs))}}/{self.runs}"
        result = "diverged" if run.diverged else f"test error {100 * run.test_errors[-1]:.1f} %"
        self.stream.write(f"[{number}] {describe(run)}: {result}, {run.seconds:.1f} s\n")
        self.stream.flush()


class BarObserver(Observer):
    """An observer that draws a bar over the steps of all runs, with the current run and the remaining time."""

    def __init__(self, stream: TextIO, columns: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.progress = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[done]}/{task.fields[runs]} runs"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=terminal.console(stream, columns),
            transient=True,
            expand=True,
            speed_estimate_period=WINDOW_SECONDS,
        )
        self.task = self.progress.add_task("", total=None, done=0, runs=0)
        self.done = 0

    def begin(self, runs: int, steps: int) -> None:
        """Start the bar."""
        self.progress.update(self.task, total=steps, runs=runs)
        self.progress.start()

    def begin_run(self, run: Run) -> None:
        """Show the name of the run next to the bar."""
        longest = max(len(entry.label) for entry in NORMALIZERS.values()) + len(", 999 per rank, seed 99")
        self.progress.update(self.task, description=describe(run).ljust(longest))

    def advance(self, steps: int) -> None:
        """Advance the bar."""
        self.progress.advance(self.task, steps)

    def end_run(self, run: Run) -> None:  # noqa: ARG002 (the table shows the result)
        """Count the complete run."""
        self.done += 1
        self.progress.update(self.task, done=self.done)

    def end(self) -> None:
        """Remove the bar."""
        self.progress.stop()
