"""One training of a comparison."""

from __future__ import annotations

import math

import numpy as np

from syncbn.comm import Communicator
from syncbn.data import Inputs
from syncbn.experiments.config import CompareConfig
from syncbn.experiments.networks import build_network
from syncbn.experiments.observer import Observer
from syncbn.experiments.results import Run
from syncbn.nn import SGD
from syncbn.train import Progress, Trainer


class _DivergedError(Exception):
    """Ends a training whose loss is no number any more. All ranks see the same loss, so all raise it."""


def train(
    config: CompareConfig, run: Run, inputs: Inputs, classes: int, comm: Communicator, observer: Observer
) -> None:
    """Train the network of ``run`` and write down in it what happens. Collective."""
    _, *image_shape = inputs.x_train.shape
    model = build_network(
        config.network,
        run.norm,
        run.seed,
        image_shape=(image_shape[0], image_shape[1], image_shape[2]),
        classes=classes,
        comm=comm,
        reduction=config.reduction,
    )
    optimizer = SGD(model.parameters(), config.learning_rate(run.batch * comm.size), config.momentum)
    # A smaller last batch may leave a rank with one sample, of which BN can take no variance.
    trainer = Trainer(model, optimizer, comm, batch_per_rank=run.batch, seed=run.seed, drop_last=True)
    recorder = _Recorder(config, run, trainer, inputs, observer)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # a diverging network is a result, not an accident
            trainer.fit(inputs.x_train, inputs.y_train, config.epochs, on_step=recorder.record)
    except _DivergedError:
        run.diverged = True
        observer.advance(config.steps(run.batch * comm.size, len(inputs.x_train)) - run.steps)


class _Recorder:
    """Adds each step to the run, and evaluates now and then."""

    def __init__(self, config: CompareConfig, run: Run, trainer: Trainer, inputs: Inputs, observer: Observer) -> None:
        self.config = config
        self.run = run
        self.trainer = trainer
        self.inputs = inputs
        self.observer = observer
        self.losses: list[float] = []

    def record(self, progress: Progress) -> None:
        """Take note of a step. Collective."""
        run = self.run
        run.steps += 1
        run.seconds += progress.seconds
        run.bytes_sent += progress.bytes_sent
        self.losses.append(progress.loss)
        self.observer.advance(1)
        if not math.isfinite(progress.loss):
            raise _DivergedError
        if self._is_due(progress):
            test = self.trainer.evaluate(self.inputs.x_test, self.inputs.y_test)
            run.epochs.append(progress.epoch - 1 + progress.step / progress.steps)
            run.train_losses.append(math.fsum(self.losses) / len(self.losses))
            run.test_losses.append(test.loss)
            run.test_errors.append(test.error)
            self.losses.clear()

    def _is_due(self, progress: Progress) -> bool:
        """Tell whether the step is the last one of its share of the epoch."""
        count = self.config.evaluations
        return progress.step * count // progress.steps > (progress.step - 1) * count // progress.steps
