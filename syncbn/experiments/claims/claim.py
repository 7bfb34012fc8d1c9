"""A claim about batch normalization: its text, the pieces of work that measure it, and the rule of its verdict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar, cast

from syncbn.experiments.claims.chart import Chart
from syncbn.experiments.claims.check import Check
from syncbn.experiments.claims.setup import Context, Effort, Setup

Numbers = dict[str, Any]
"""JSON values: finite floats, integers, booleans, None, strings, lists and dictionaries of these."""

Key = dict[str, Any]
"""Setting of a piece, as JSON values."""


@dataclass(frozen=True)
class Piece:
    """One independent piece of work, such as a training run.

    Attributes
    ----------
    key : dict
        Setting, seed included. It determines the numbers that the piece gives.
    cost : float
        Estimated seconds on one core, for the progress bar.
    """

    key: Key
    cost: float

    def __str__(self) -> str:
        return ", ".join(f"{name} {_text(value)}" for name, value in self.key.items())


@dataclass(frozen=True)
class Result:
    """A piece that is done.

    Attributes
    ----------
    key : dict
        Setting of the piece.
    numbers : dict
        Its numbers.
    seconds : float
        Time that it took.
    """

    key: Key
    numbers: Numbers
    seconds: float

    def matches(self, **setting: Any) -> bool:
        """Return whether the key has all these values."""
        return all(self.key.get(name) == value for name, value in setting.items())


@dataclass(frozen=True)
class Conclusion:
    """The conclusion of a claim.

    Attributes
    ----------
    checks : sequence of Check
        The parts of the claim, which give the verdict.
    numbers : dict
        Summary of the results as JSON values.
    charts : sequence of Chart
    notes : sequence of str
        Further observations.
    """

    checks: Sequence[Check]
    numbers: Numbers
    charts: Sequence[Chart]
    notes: Sequence[str] = field(default=())


S = TypeVar("S")
"""Class of the settings of a claim, a dataclass."""


class Claim(ABC, Generic[S]):
    """A claim.

    A subclass defines the class variables, `pieces`, `measure` and `conclude`, and `search` with its table and notes if
    it has settings that depend on earlier results, such as a learning rate for each normalizer.

    Attributes
    ----------
    name : str
        Name on the command line.
    title : str
        Heading.
    statement : str
        The claim, as a sentence.
    question, method, rule, published : str
        What is asked, how it is measured, when the verdict is "holds", and what others have published.
    caveats : sequence of str
        Limits of the measurement.
    efforts : mapping
        Settings of each effort.
    collective : bool
        Whether all ranks work on a piece together. If False, each rank works on another piece by itself, and the
        numbers do not depend on the number of ranks.
    timed : bool
        Whether the numbers include times, so that kept pieces count on the machine that measured them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    statement: ClassVar[str]
    question: ClassVar[str]
    method: ClassVar[str]
    rule: ClassVar[str]
    published: ClassVar[str]
    caveats: ClassVar[Sequence[str]]
    efforts: ClassVar[Mapping[Effort, Any]]
    collective: ClassVar[bool] = False
    timed: ClassVar[bool] = False

    def settings(self, setup: Setup) -> S:
        """Return the settings of this effort; pieces with other settings are not reused."""
        return cast(S, self.efforts[setup.effort])

    def check(self, setup: Setup) -> None:
        """Raise ValueError if the claim cannot be measured with this setup. Not collective."""

    def search(self, setup: Setup, found: Sequence[Result] = ()) -> list[Piece]:  # noqa: ARG002 (for overriding)
        """Return the pieces of the search, on whose results `pieces` depends.

        ``found`` has the results so far. The search ends when it returns no further piece, so those of earlier calls
        must be among the later ones.
        """
        return []

    def search_table(self, setup: Setup, found: Sequence[Result]) -> list[Numbers]:  # noqa: ARG002 (for overriding)
        """Return the report of the search as JSON values, one row for each piece."""
        return []

    def search_notes(self, setup: Setup, found: Sequence[Result]) -> list[str]:  # noqa: ARG002 (for overriding)
        """Return what the reader of the search has to know, such as a choice at the edge of a grid."""
        return []

    @abstractmethod
    def pieces(self, setup: Setup, found: Sequence[Result]) -> list[Piece]:
        """Return all other pieces, given the results of the search.

        ``found`` is empty when the length of the work is estimated: the number of pieces must not depend on it.
        """

    @abstractmethod
    def measure(self, key: Mapping[str, Any], context: Context) -> Numbers:
        """Do a piece, and return its numbers. Collective over ``context.comm``."""

    @abstractmethod
    def conclude(self, setup: Setup, found: Sequence[Result], results: Sequence[Result]) -> Conclusion:
        """Return the conclusion from the results of the search and of the pieces."""


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
