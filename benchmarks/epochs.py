"""Epochs of the residual network of `syncbn compare`, trained in two ways in turn."""

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
    """Return what is trained on."""
    return data.load("fashion-mnist-10k").first(IMAGES, 1)


def epoch(comm: Communicator, reduction: str = "exact") -> Way:
    """Return what trains an epoch at each batch with synchronized batch normalization. Collective."""
    config = CompareConfig(
        norms=("syncbn",), batches=BATCHES, network="resnet", epochs=1, seeds=1, evaluations=1, reduction=reduction
    )
    return lambda dataset: [run.seconds for run in compare(config, dataset, comm)]


def in_turn(ways: dict[str, Way], pairs: int) -> list[dict]:
    """Return medians of the seconds of both ways, at each batch and of all together, and of the ratios of pairs.

    Collective. The first pair is not counted, and the order changes from pair to pair. The ratio, of the first way
    to the second, is called by both names.
    """
    dataset = images()
    seconds: dict[str, list[list[float]]] = {name: [] for name in ways}
    for pair in range(pairs + 1):
        for name in sorted(ways, reverse=pair % 2 == 1):
            found = ways[name](dataset)
            seconds[name].append([*found, sum(found)])
    one, other = ways
    rows = []
    for place, what in enumerate([*(f"batch {batch} per rank" for batch in BATCHES), "all"]):
        of_one, of_other = ([found[place] for found in seconds[name][1:]] for name in (one, other))
        row = {one: statistics.median(of_one), other: statistics.median(of_other)}
        ratios = sorted(x / y for x, y in zip(of_one, of_other, strict=True))
        row[f"{one}/{other}"] = statistics.median(ratios)
        row["half of the ratios"] = [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]]
        rows.append({"of": what, **row})
    return rows


def judged(name: str, ratio: float, limit: float) -> str:
    """Return a ratio beside its limit."""
    return f"{name:24s} {ratio:.3f}  (limit {limit:.2f})" + "  missed" * (ratio > limit)


def line(row: dict) -> str:
    """Return a row of the table."""
    one, other = list(row)[1:3]
    low, high = row["half of the ratios"]
    return (
        f"resnet, {row['of']:17s} {other} {row[other]:7.3f} s  {one} {row[one]:7.3f} s  "
        f"{one}/{other} {row[f'{one}/{other}']:.3f} [{low:.3f}, {high:.3f}]"
    )
