"""The interface for the progress of work whose parts take different times."""

from __future__ import annotations


class Progress:
    """The base class of displays of progress, whose methods do nothing; override those that are needed."""

    def begin(self, pieces: int, cost: float) -> None:
        """Handle the start of so many pieces with this cost in total."""

    def extend(self, pieces: int, cost: float) -> None:
        """Handle further pieces with this cost, whose need has shown during the work."""

    def show(self, description: str) -> None:
        """Handle the start of a piece or of some in parallel."""

    def advance(self, pieces: int, cost: float, *, kept: bool = False) -> None:
        """Handle the end of pieces with this cost; ``kept`` if an earlier run has done them."""

    def end(self) -> None:
        """Handle the end of the work, complete or by an exception."""
