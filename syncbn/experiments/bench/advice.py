"""What the figures of a benchmark advise, by rules that are said with the advice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from syncbn.experiments.scale.measurement import Measurement

THREAD_GAIN = 1.2
"""A doubling of threads has to make the kernels so many times faster."""

ENOUGH_SAMPLES = 16
"""Wu & He 2018, table 2: ResNet-50 has 23.6, 23.7, 24.8, 27.3 and 34.7 % error with 32, 16, 8, 4 and 2 samples."""

EXACT_LIMIT = 1.25
"""How many times longer than with float64 sums a pass through the layers may take."""


@dataclass(frozen=True)
class Advice:
    """One piece of advice.

    Attributes
    ----------
    subject : {"threads", "ranks", "group size", "reduction"}
    value : int or str or None
        What to take; None where there is nothing to choose.
    reason : str
        The rule, with the figures that it was applied to.
    """

    subject: str
    value: int | str | None
    reason: str


def thread_advice(kernels: Sequence[Mapping[str, Any]], cores: int, ranks: int) -> Advice:
    """Advise threads per rank: no more than its share of the cores, and as many as still pay.

    Parameters
    ----------
    kernels : sequence
        As `kernel_speeds` returns, for several numbers of threads.
    cores, ranks : int
        Of this node.
    """
    share = max(1, cores // ranks)
    if not kernels:
        return Advice("threads", share, f"cores ÷ ranks = {share}; kernels were not measured")
    times: dict[int, float] = {}
    for row in kernels:
        took = row["microseconds"]["forward"] + row["microseconds"]["backward"]
        times[row["threads"]] = times.get(row["threads"], 0.0) + took
    best = min(times)
    for threads in sorted(times):
        gained = times[best] / times[threads]
        if threads <= share and gained >= THREAD_GAIN ** math.log2(threads / best):
            best = threads
    measured = ", ".join(f"{threads}: {took / 1e3:.1f} ms" for threads, took in sorted(times.items()))
    return Advice(
        "threads",
        best,
        f"at most cores ÷ ranks = {share}; each doubling must make the kernels {THREAD_GAIN} times faster ({measured})",
    )


def rank_advice(cores: int, ranks: int) -> Advice:
    """Advise ranks on this node: ranks that share a core wait for each other.

    Parameters
    ----------
    cores, ranks : int
        Of this node.
    """
    most = f"at most one for each of the {cores} cores"
    return Advice("ranks", min(cores, ranks), most if ranks <= cores else f"{most}: {ranks} share them and wait")


def group_advice(batch: int, ranks: int) -> Advice:
    """Advise the ranks that share statistics: as few as have enough samples together.

    Parameters
    ----------
    batch : int
        Samples per rank.
    ranks : int
        In all.
    """
    size = math.ceil(ENOUGH_SAMPLES / batch)
    reason = (
        f"{ENOUGH_SAMPLES} samples are enough for the statistics (Wu & He 2018), with {batch} per rank that is {size}"
    )
    if size == 1:
        return Advice("group size", 1, f"{reason}: local batch normalization will do")
    if size >= ranks:
        return Advice(
            "group size", None, f"{reason}: on {ranks} ranks synchronize all; from {2 * size} on, split({size})"
        )
    return Advice("group size", size, f"{reason}: split({size})")


def reduction_advice(measurement: Measurement) -> Advice:
    """Advise the reduction: exact unless it costs too much.

    Parameters
    ----------
    measurement : Measurement
        With the times of all layers.
    """
    exact, plain = measurement.layers["exact"], measurement.layers["float64"]
    return Advice(
        "reduction",
        "exact" if exact <= EXACT_LIMIT * plain else "float64",
        f"exact unless the layers take {EXACT_LIMIT} times longer than with float64 ({exact / plain:.2f} here)",
    )
