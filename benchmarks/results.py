"""Results of all passes of a run."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Measurement:
    """The times of one case.

    Attributes
    ----------
    section, group, name : str
    ranks : int
    size : int
        Size of x in bytes.
    weight : int
        Weight of the case in totals.
    point : float or None
        Position on a curve.
    passes : list of dict
        Seconds of each candidate in each round, for each pass.
    """

    section: str
    group: str
    name: str
    ranks: int = 1
    size: int = 0
    weight: int = 1
    point: float | None = None
    passes: list[dict[str, list[float]]] = field(default_factory=list)

    @property
    def candidates(self) -> list[str]:
        """Names of the measured candidates."""
        return list(self.passes[0])

    def seconds(self, candidate: str) -> float:
        """Return the median over the rounds of all passes."""
        return statistics.median(t for times in self.passes for t in times[candidate])

    def ratios(self, numerator: str, denominator: str) -> list[float]:
        """Return the median over rounds of the ratios of times, for each pass."""
        return [
            statistics.median(n / d for n, d in zip(times[numerator], times[denominator], strict=True))
            for times in self.passes
        ]

    def seconds_by_pass(self, candidate: str) -> list[float]:
        """Return the median over rounds, for each pass."""
        return [statistics.median(times[candidate]) for times in self.passes]

    def as_json(self) -> dict[str, Any]:
        """Return the entry of the record: medians in microseconds, of all passes and of each pass."""
        return {
            "group": self.group,
            "name": self.name,
            "ranks": self.ranks,
            "bytes": self.size,
            "layers": self.weight,
            "point": self.point,
            "microseconds": {name: _micro(self.seconds(name)) for name in self.candidates},
            "by_pass": {name: [_micro(t) for t in self.seconds_by_pass(name)] for name in self.candidates},
        }


class Results:
    """All measurements of a run."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str], Measurement] = {}

    def add(self, line: dict[str, Any]) -> Measurement:
        """Add a line of the output of `measure.py`, the times of one case in one pass."""
        new = Measurement(
            line["section"], line["group"], line["name"], line["ranks"], line["bytes"], line["weight"], line["point"]
        )
        measurement = self._all.setdefault((new.group, new.name), new)
        measurement.passes.append(line["seconds"])
        return measurement

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self._all.values())

    def group(self, name: str) -> list[Measurement]:
        """Return the measurements of one group in order."""
        return [measurement for measurement in self if measurement.group == name]

    def groups(self, prefix: str = "") -> list[str]:
        """Return the names of the groups with this prefix in order."""
        return [name for name in dict.fromkeys(m.group for m in self) if name.startswith(prefix)]


def _micro(seconds: float) -> float:
    return float(f"{seconds * 1e6:.5g}")
