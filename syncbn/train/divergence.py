"""Detection of a training whose loss or parameters are not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from syncbn.layers import Module
from syncbn.pitfalls import see
from syncbn.train.records import EpochRecord


def has_finite_parameters(model: Module) -> bool:
    """Return whether all parameters are finite on this rank."""
    return all(np.isfinite(parameter.data).all() for parameter in model.parameters())


def has_diverged(model: Module, history: Sequence[EpochRecord]) -> bool:
    """Return whether the loss of the last epoch or a parameter is not finite."""
    return not (math.isfinite(history[-1].train_loss) and has_finite_parameters(model))


def describe_divergence(history: Sequence[EpochRecord], checkpoint: Path | None) -> str:
    """Return the text of the warning: the first epoch whose loss is not finite, and what to do."""
    last = history[-1]
    first = next((record for record in history if not math.isfinite(record.train_loss)), last)
    kept = "" if checkpoint is None else f"; {checkpoint} remains as it was while parameters are not finite"
    return (
        f"training has diverged: since epoch {first.epoch}, the loss or a parameter is not finite (loss "
        f"{last.train_loss}). Check that all of x is finite, and lower the learning rate ({last.lr:g}){kept}"
        f"{see('training-that-diverges')}"
    )
