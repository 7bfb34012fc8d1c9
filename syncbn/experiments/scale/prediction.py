"""Predictions for several numbers of ranks, algorithms and group sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from syncbn.experiments.scale.algorithms import ALGORITHMS
from syncbn.experiments.scale.config import ScaleConfig
from syncbn.experiments.scale.model import Machine, share, step_time


@dataclass(frozen=True)
class Prediction:
    """The cost of synchronization with one number of ranks, algorithm and group size.

    Attributes
    ----------
    ranks : int
    group_size : int or None
        None means all ranks.
    algorithm : str
        Key of `ALGORITHMS`.
    layer_microseconds : float
        Mean over layers of forward and backward.
    step_milliseconds : float
        Sum over all layers.
    share : float or None
        Fraction of a training step; None if the time of the rest of a step is unknown.
    """

    ranks: int
    group_size: int | None
    algorithm: str
    layer_microseconds: float
    step_milliseconds: float
    share: float | None


def predictions(machine: Machine, config: ScaleConfig, computing: float | None) -> Iterator[Prediction]:
    """Yield predictions, with groups in the outer and algorithms in the inner loop.

    Parameters
    ----------
    machine : Machine
    config : ScaleConfig
    computing : float or None
        Milliseconds of the rest of a step, if known.
    """
    for group_size in (None, *config.groups):
        for ranks in config.at:
            for name, algorithm in ALGORITHMS.items():
                total = step_time(machine, algorithm, ranks, config.widths, config.reduction, group_size)
                yield Prediction(
                    ranks,
                    group_size,
                    name,
                    total / len(config.widths),
                    total / 1e3,
                    None if computing is None else share(total / 1e3, computing),
                )
