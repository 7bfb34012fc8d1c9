"""Results of single training runs, and their summary over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from syncbn.experiments.statistics import Interval, interval


@dataclass
class Run:
    """One training run with a normalizer, batch size, seed and learning rate. Lists have one entry per evaluation.

    Attributes
    ----------
    norm : str
    batch : int
        Samples per rank.
    seed : int
    lr : float
        Learning rate for a global batch of 32.
    epochs : list of float
        Passes over the training data before the evaluation.
    train_losses : list of float
        Mean loss of the steps since the previous evaluation.
    test_losses, test_errors : list of float
        Mean cross-entropy, and fraction of misclassified samples.
    steps : int
    seconds : float
        Time of training without the evaluations.
    bytes_sent : int
        Bytes that one rank passed to collective calls during training.
    diverged : bool
        Whether the run ended early because the loss became infinite or NaN.
    """

    norm: str
    batch: int
    seed: int
    lr: float
    epochs: list[float] = field(default_factory=list)
    train_losses: list[float] = field(default_factory=list)
    test_losses: list[float] = field(default_factory=list)
    test_errors: list[float] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    bytes_sent: int = 0
    diverged: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return JSON values; NaN and infinity become None."""
        return {name: _finite(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Cell:
    """The runs of one normalizer, batch per rank and learning rate, over all seeds.

    Attributes
    ----------
    lr : float
        Learning rate for a global batch of 32.
    test_error, test_loss, train_loss : Interval or None
        Values after the last epoch; None if a run diverged, because the mean of the others would be too good.
    seconds : float
        Mean training time of a run.
    bytes_per_step : float
    runs, diverged : int
        Number of runs, and of diverged runs.
    """

    norm: str
    batch: int
    lr: float
    test_error: Interval | None
    test_loss: Interval | None
    train_loss: Interval | None
    seconds: float
    bytes_per_step: float
    runs: int
    diverged: int

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def summarize(runs: Sequence[Run]) -> list[Cell]:
    """Return one cell per learning rate, batch size and normalizer.

    Learning rates and batch sizes are in ascending order, normalizers in that of the first runs.
    """
    norms = list(dict.fromkeys(run.norm for run in runs))
    groups: dict[tuple[float, int, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.lr, run.batch, norms.index(run.norm)), []).append(run)
    return [_cell(groups[key]) for key in sorted(groups)]


def _cell(group: list[Run]) -> Cell:
    diverged = sum(run.diverged for run in group)
    steps = sum(run.steps for run in group)

    def last(attribute: str) -> Interval | None:
        return None if diverged else interval([getattr(run, attribute)[-1] for run in group])

    return Cell(
        norm=group[0].norm,
        batch=group[0].batch,
        lr=group[0].lr,
        test_error=last("test_errors"),
        test_loss=last("test_losses"),
        train_loss=last("train_losses"),
        seconds=sum(run.seconds for run in group) / len(group),
        bytes_per_step=sum(run.bytes_sent for run in group) / max(steps, 1),
        runs=len(group),
        diverged=diverged,
    )


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
