"""A training run of a comparison."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from syncbn.comm import Communicator
from syncbn.data import Inputs
from syncbn.experiments.config import CompareConfig, scaled
from syncbn.experiments.networks import build_network
from syncbn.experiments.observer import Observer
from syncbn.experiments.results import Run
from syncbn.nn import SGD
from syncbn.train import Progress, Trainer
from syncbn.train.divergence import has_finite_parameters
from syncbn.train.run import Labels
from syncbn.typing import FloatArray


class _DivergedError(Exception):
    """Raised on all ranks, which compute the same loss, when it is not finite."""


def fit_unless_diverging(
    trainer: Trainer, x: FloatArray, y: Labels, epochs: int, on_step: Callable[[Progress], object] | None = None
) -> bool:
    """Train until ``epochs`` epochs are completed or the loss is infinite or NaN; return whether it is.

    Collective. Arguments are those of `Trainer.fit`; ``on_step`` is also called for the step with such a loss.
    """

    def check(progress: Progress) -> None:
        if on_step is not None:
            on_step(progress)
        if not math.isfinite(progress.loss):
            raise _DivergedError

    try:
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is a valid result
            trainer.fit(x, y, epochs, on_step=check, progress=False)
    except _DivergedError:
        return True
    return False


def train(
    config: CompareConfig, run: Run, inputs: Inputs, classes: int, comm: Communicator, observer: Observer
) -> None:
    """Train the network of ``run`` and record the results in it. Collective."""
    model = build_network(
        config.network,
        run.norm,
        run.seed,
        image_shape=image_shape(inputs),
        classes=classes,
        comm=comm,
        reduction=config.reduction,
    )
    optimizer = SGD(model.parameters(), scaled(run.lr, run.batch * comm.size), config.momentum)
    # A smaller last batch could leave a rank with a single sample, which has no variance for local BN.
    trainer = Trainer(model, optimizer, comm, batch_per_rank=run.batch, seed=run.seed, drop_last=True)
    recorder = _Recorder(config, run, trainer, inputs, observer)
    run.diverged = fit_unless_diverging(trainer, inputs.x_train, inputs.y_train, config.epochs, recorder.record)
    if not run.diverged and run.test_losses:  # the last step may have been the one
        run.diverged = not (math.isfinite(run.test_losses[-1]) and has_finite_parameters(model))
    if run.diverged:
        observer.advance(config.steps(run.batch * comm.size, len(inputs.x_train)) - run.steps)


def image_shape(inputs: Inputs) -> tuple[int, int, int]:
    """Return (channels, height, width) of the images."""
    _, channels, height, width = inputs.x_train.shape
    return channels, height, width


class _Recorder:
    """Recorder that adds each step to the run and evaluates several times per epoch."""

    def __init__(self, config: CompareConfig, run: Run, trainer: Trainer, inputs: Inputs, observer: Observer) -> None:
        self.config = config
        self.run = run
        self.trainer = trainer
        self.inputs = inputs
        self.observer = observer
        self.losses: list[float] = []

    def record(self, progress: Progress) -> None:
        """Record a step. Collective."""
        run = self.run
        run.steps += 1
        run.seconds += progress.seconds
        run.bytes_sent += progress.bytes_sent
        self.losses.append(progress.loss)
        self.observer.advance(1)
        if math.isfinite(progress.loss) and self._is_due(progress):
            test = self.trainer.evaluate(self.inputs.x_test, self.inputs.y_test)
            run.epochs.append(progress.epoch - 1 + progress.step / progress.steps)
            run.train_losses.append(math.fsum(self.losses) / len(self.losses))
            run.test_losses.append(test.loss)
            run.test_errors.append(test.error)
            self.losses.clear()

    def _is_due(self, progress: Progress) -> bool:
        """Return whether an evaluation follows this step: the epoch is divided into equal parts."""
        count = self.config.evaluations
        return progress.step * count // progress.steps > (progress.step - 1) * count // progress.steps
