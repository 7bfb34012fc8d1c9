"""Advice derived from a benchmark by rules, which are part of the advice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from syncbn.experiments.scale.measurement import Measurement

THREAD_GAIN = 1.2
"""Speed-up of the kernels that a doubling of the threads must reach."""

ENOUGH_SAMPLES = 16
"""Samples that suffice for statistics: with 32, 16, 8, 4 and 2 samples per worker, the error of ResNet-50 is 23.6,
23.7, 24.8, 27.3 and 34.7 % (Wu & He 2018, table 2)."""

EXACT_LIMIT = 1.25
"""Largest acceptable ratio of the times with exact and with float64 sums."""


@dataclass(frozen=True)
class Advice:
    """One piece of advice.

    Attributes
    ----------
    subject : {"threads", "ranks", "group size", "reduction"}
    value : int or str or None
        The advised value; None if there is nothing to choose.
    reason : str
        The rule and the numbers to which it was applied.
    """

    subject: str
    value: int | str | None
    reason: str


def thread_advice(kernels: Sequence[Mapping[str, Any]], cores: int, ranks: int) -> Advice:
    """Advise on threads per rank: at most its share of the cores, and only while they make the kernels faster.

    Parameters
    ----------
    kernels : sequence
        Results of `kernel_speeds` for several numbers of threads.
    cores, ranks : int
        Numbers of cores and ranks of this node.
    """
    share = max(1, cores // ranks)
    if not kernels:
        return Advice("threads", share, f"cores ÷ ranks = {share}; kernels were not measured")
    times: dict[int, float] = {}
    for row in kernels:
        duration = row["microseconds"]["forward"] + row["microseconds"]["backward"]
        times[row["threads"]] = times.get(row["threads"], 0.0) + duration
    best = min(times)
    for threads in sorted(times):
        speedup = times[best] / times[threads]
        if threads <= share and speedup >= THREAD_GAIN ** math.log2(threads / best):
            best = threads
    measured = ", ".join(f"{threads}: {duration / 1e3:.1f} ms" for threads, duration in sorted(times.items()))
    return Advice(
        "threads",
        best,
        f"at most cores ÷ ranks = {share}; each doubling must make the kernels {THREAD_GAIN} times faster ({measured})",
    )


def rank_advice(cores: int, ranks: int) -> Advice:
    """Advise on the number of ranks on this node: ranks that share a core wait for each other.

    Parameters
    ----------
    cores, ranks : int
        Numbers of cores and ranks of this node.
    """
    rule = f"at most one per core ({cores} cores)"
    return Advice("ranks", min(cores, ranks), rule if ranks <= cores else f"{rule}: {ranks} ranks share them and wait")


def group_advice(batch: int, ranks: int) -> Advice:
    """Advise on the number of ranks that share statistics: the smallest with enough samples.

    Parameters
    ----------
    batch : int
        Samples per rank.
    ranks : int
        Number of all ranks.
    """
    size = math.ceil(ENOUGH_SAMPLES / batch)
    reason = (
        f"{ENOUGH_SAMPLES} samples are enough for the statistics (Wu & He 2018), with {batch} per rank that is {size}"
    )
    if size == 1:
        return Advice("group size", 1, f"{reason}: local batch normalization suffices")
    if ranks == 1:
        return Advice("group size", None, "one rank has nothing to synchronize: measure several, as by --ranks 2")
    if size >= ranks:
        return Advice(
            "group size", None, f"{reason}: synchronize all {ranks} ranks; with {2 * size} or more, split({size})"
        )
    return Advice("group size", size, f"{reason}: split({size})")


def reduction_advice(measurement: Measurement) -> Advice:
    """Advise on the reduction: exact unless it is too slow.

    Parameters
    ----------
    measurement : Measurement
        A measurement with the times of all layers.
    """
    exact, plain = measurement.layers["exact"], measurement.layers["float64"]
    return Advice(
        "reduction",
        "exact" if exact <= EXACT_LIMIT * plain else "float64",
        f"exact unless the layers take {EXACT_LIMIT} times longer than with float64 ({exact / plain:.2f} here)",
    )
