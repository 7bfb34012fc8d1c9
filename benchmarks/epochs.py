"""Alternating epochs of the residual network of `syncbn compare`, trained in two ways."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from syncbn import data
from syncbn.comm import Communicator
from syncbn.data import Dataset
from syncbn.experiments.compare import compare
from syncbn.experiments.config import CompareConfig

BATCHES = (2, 8, 32)
IMAGES = 2048

Way = Callable[[Dataset], list[float]]


def images() -> Dataset:
    """Return the training data."""
    return data.load("fashion-mnist-10k").first(IMAGES, 1)


def epoch(comm: Communicator, reduction: str = "exact") -> Way:
    """Return a function that trains one epoch at each batch size with SyncBatchNorm. Collective."""
    config = CompareConfig(
        norms=("syncbn",), batches=BATCHES, network="resnet", epochs=1, seeds=1, evaluations=1, reduction=reduction
    )
    return lambda dataset: [run.seconds for run in compare(config, dataset, comm)]


def in_turn(ways: dict[str, Way], pairs: int) -> list[dict]:
    """Return the medians of the seconds of two ways, for each batch size and in total, and of their ratios in pairs.

    Collective. The first pair is a warm-up, and the order alternates between pairs. The key of the ratio of the first
    way to the second is ``first/second``.
    """
    dataset = images()
    seconds: dict[str, list[list[float]]] = {name: [] for name in ways}
    for pair in range(pairs + 1):
        for name in sorted(ways, reverse=pair % 2 == 1):
            found = ways[name](dataset)
            seconds[name].append([*found, sum(found)])
    one, other = ways
    rows = []
    for position, label in enumerate([*(f"batch {batch} per rank" for batch in BATCHES), "all"]):
        of_one, of_other = ([found[position] for found in seconds[name][1:]] for name in (one, other))
        row = {one: statistics.median(of_one), other: statistics.median(of_other)}
        ratios = sorted(x / y for x, y in zip(of_one, of_other, strict=True))
        row[f"{one}/{other}"] = statistics.median(ratios)
        row["half of the ratios"] = [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]]
        rows.append({"of": label, **row})
    return rows


def judged(name: str, ratio: float, limit: float) -> str:
    """Return a line with a ratio and its limit."""
    return f"{name:24s} {ratio:.3f}  (limit {limit:.2f})" + "  missed" * (ratio > limit)


def line(row: dict) -> str:
    """Return a row of the table as text."""
    one, other = list(row)[1:3]
    low, high = row["half of the ratios"]
    return (
        f"resnet, {row['of']:17s} {other} {row[other]:7.3f} s  {one} {row[one]:7.3f} s  "
        f"{one}/{other} {row[f'{one}/{other}']:.3f} [{low:.3f}, {high:.3f}]"
    )
