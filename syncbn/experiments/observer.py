"""Who watches a comparison while it runs."""

from __future__ import annotations

from syncbn.experiments.results import Run


class Observer:
    """Is told of every run; this one ignores it all. Override what you want to see."""

    def begin(self, runs: int, steps: int) -> None:
        """So many runs with so many steps in all are about to start."""

    def begin_run(self, run: Run) -> None:
        """``run`` starts."""

    def advance(self, steps: int) -> None:
        """So many steps more were done, or will never be."""

    def end_run(self, run: Run) -> None:
        """``run`` is complete."""

    def end(self) -> None:
        """No more runs: all are complete, or an exception is on its way."""
