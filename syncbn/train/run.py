"""Arguments of one call of `Trainer.fit`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_integer
from syncbn.files import check_path, printable
from syncbn.layers import Module
from syncbn.pitfalls import see
from syncbn.train.arguments import check_samples
from syncbn.train.config import describe_data
from syncbn.train.order import DataOrder
from syncbn.train.persistence import CheckpointFiles
from syncbn.typing import FloatArray

Labels = NDArray[np.integer]
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Run:
    """Arguments of a call of `Trainer.fit`, which describes them: data, last epoch and checkpoints.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid.
    """

    x: FloatArray
    y: Labels
    epochs: int
    order: DataOrder
    validation_data: tuple[FloatArray, Labels] | None
    checkpoint: PathLike | None
    checkpoint_steps: int | None

    def __post_init__(self) -> None:
        """Check all but x and y, without whose length there is no order."""
        if self.validation_data is not None:
            if not isinstance(self.validation_data, (tuple, list)) or len(self.validation_data) != 2:
                given = type(self.validation_data).__name__
                length = f" of length {len(self.validation_data)}" if hasattr(self.validation_data, "__len__") else ""
                raise TypeError(
                    f"validation_data must be a pair (x, y) of samples and labels, got {given}{length}{see('labels')}"
                )
            check_samples(*self.validation_data)
        if self.checkpoint_steps is not None:
            check_integer("checkpoint_steps", self.checkpoint_steps)
            if self.checkpoint is None:
                raise ValueError(
                    f"checkpoint_steps={self.checkpoint_steps} without checkpoint would write nothing: pass the file "
                    f"too, fit(..., checkpoint='run.npz'){see('checkpoints')}"
                )
        check_integer("epochs", self.epochs, 0)
        _ = self.file  # a path that is none is an error of this call, not of the first checkpoint

    @cached_property
    def file(self) -> Path | None:
        """File to which checkpoints are written."""
        return None if self.checkpoint is None else check_path("checkpoint", self.checkpoint)

    @cached_property
    def data(self) -> dict[str, str]:
        """Description of the training data, equal on all ranks and in a run that resumes."""
        return describe_data(self.x, self.y)

    def warnings(
        self, model: Module, schedule: Callable[[int], float] | None, files: CheckpointFiles
    ) -> Iterator[tuple[str, type[UserWarning] | type[RuntimeWarning]]]:
        """Yield text and class of each warning about arguments that are valid, but may be a mistake."""
        if not model.training:
            yield (
                "the model is in evaluation mode, so its normalizers use their running statistics and keep them: to "
                "train the whole model, call model.train() before fit",
                UserWarning,
            )
        steps = self.epochs * self.order.steps
        if (end := _early_end(schedule, steps)) is not None:
            yield (
                f"the schedule has total_steps={end}, but epochs={self.epochs} are {steps} steps, so the learning rate "
                f"of the rest is 0: make it with total_steps={steps}{see('learning-rates')}",
                RuntimeWarning,
            )
        if self.file is not None and files.is_new(self.file):
            yield (
                f"{printable(str(self.file))} exists, and this training replaces it: to continue the training that "
                f"wrote it, call trainer.resume(path) before fit{see('checkpoints')}",
                RuntimeWarning,
            )

    @property
    def options(self) -> dict[str, object]:
        """Descriptions of the other arguments, equal on all ranks."""
        return {
            "epochs": self.epochs,
            "validation_data": None if self.validation_data is None else describe_data(*self.validation_data),
            "checkpoint": None if self.file is None else "a path",
            "checkpoint_steps": self.checkpoint_steps,
        }


def _early_end(schedule: Callable[[int], float] | None, steps: int) -> int | None:
    """Return the ``total_steps`` of a schedule whose learning rate is 0 from then to the last of ``steps``, or None."""
    total = getattr(schedule, "total_steps", None)
    if schedule is None or not isinstance(total, (int, np.integer)) or total >= steps or schedule(steps - 1) != 0:
        return None
    return int(total)
