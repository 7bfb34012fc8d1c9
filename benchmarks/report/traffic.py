"""How much memory the work has to move at least."""

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
    """Return the passes over memory of a group's work, None where it is not known."""
    return PASSES.get(group.partition(",")[0])


def gigabytes_per_second(measurement: Measurement, candidate: str) -> float:
    """Return the memory that has to be moved at least, by the time taken."""
    count = COPY_PASSES if candidate == COPY else PASSES[measurement.group.partition(",")[0]]
    return count * measurement.size / measurement.seconds(candidate) / 1e9
