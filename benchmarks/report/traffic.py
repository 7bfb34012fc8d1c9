"""Minimum memory traffic of the measured work."""

from __future__ import annotations

from results import Measurement

PASSES = {  # over an array of x's size, read or written
    "forward": 3,  # reads x for the statistics; reads x and writes y
    "backward": 5,  # reads x and dy for the sums; reads both and writes dx
    "evaluation": 2,  # reads x and writes y
}
COPY_PASSES = 2
COPY = "copy"


def passes(group: str) -> int | None:
    """Return the passes over memory of the work of a group, None if they are unknown."""
    return PASSES.get(group.partition(",")[0])


def gigabytes_per_second(measurement: Measurement, candidate: str) -> float:
    """Return the minimum memory traffic divided by the time."""
    count = COPY_PASSES if candidate == COPY else PASSES[measurement.group.partition(",")[0]]
    return count * measurement.size / measurement.seconds(candidate) / 1e9
