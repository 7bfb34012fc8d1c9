"""Progress of a comparison: a bar on a terminal, one line per run elsewhere."""

from __future__ import annotations

from typing import TextIO

from syncbn.cli import terminal
from syncbn.cli.pieces import BarProgress
from syncbn.experiments.normalizers import NORMALIZERS
from syncbn.experiments.observer import Observer
from syncbn.experiments.results import Run


def make_observer(name: terminal.StreamName, rates: int) -> Observer:
    """Return a bar if the stream is a terminal, otherwise lines, for runs with this number of learning rates."""
    return LineObserver(terminal.stream(name), rates) if terminal.columns(name) is None else BarObserver(name, rates)


def describe(run: Run, rates: int) -> str:
    """Return a run's name, such as ``BN, 2 per rank, seed 0``, with its learning rate if there are several."""
    rate = f", learning rate {run.lr:g}" if rates > 1 else ""
    return f"{NORMALIZERS[run.norm].label}, {run.batch} per rank{rate}, seed {run.seed}"


class LineObserver(Observer):
    """An observer that writes a line for each complete run."""

    def __init__(self, stream: TextIO, rates: int) -> None:
        self.stream = stream
        self.rates = rates
        self.done: int = 0
        self.runs: int = 0

    def begin(self, runs: int, steps: int) -> None:  # noqa: ARG002 (only the bar needs steps)
        """Store the number of runs."""
        self.runs = runs

    def end_run(self, run: Run) -> None:
        """Write the line of the run."""
        self.done += 1
        number = f"{self.done:{len(str(self.runs))}}/{self.runs}"
        result = "diverged" if run.diverged else f"test error {100 * run.test_errors[-1]:.1f} %"
        self.stream.write(f"[{number}] {describe(run, self.rates)}: {result}, {run.seconds:.1f} s\n")
        self.stream.flush()


class BarObserver(Observer):
    """An observer that draws a bar over the steps of all runs, with the current run and the remaining time."""

    def __init__(self, name: terminal.StreamName, rates: int) -> None:
        self.bar: BarProgress = BarProgress(name, "runs")
        self.rates = rates

    def begin(self, runs: int, steps: int) -> None:
        """Start the bar."""
        self.bar.begin(runs, steps)

    def begin_run(self, run: Run) -> None:
        """Show the name of the run next to the bar."""
        self.bar.show(describe(run, self.rates))

    def advance(self, steps: int) -> None:
        """Advance the bar."""
        self.bar.advance(0, steps)

    def end_run(self, run: Run) -> None:  # noqa: ARG002 (the table shows the result)
        """Count the complete run."""
        self.bar.advance(1, 0)

    def end(self) -> None:
        """Remove the bar."""
        self.bar.end()
