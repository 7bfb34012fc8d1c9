"""The interface for the progress of a comparison."""

from __future__ import annotations

from syncbn.experiments.results import Run


class Observer:
    """The base class of observers, whose methods do nothing; override those that are needed."""

    def begin(self, runs: int, steps: int) -> None:
        """Handle the start of ``runs`` runs with ``steps`` steps in total."""

    def begin_run(self, run: Run) -> None:
        """Handle the start of ``run``."""

    def advance(self, steps: int) -> None:
        """Handle the completion of ``steps`` further steps, or their omission after divergence."""

    def end_run(self, run: Run) -> None:
        """Handle the completion of ``run``."""

    def end(self) -> None:
        """Handle the end of the comparison, complete or by an exception."""
