"""Training as all claims do it: the images of a run, the steps, and the error that it counts with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from syncbn.comm import SERIAL, Communicator
from syncbn.experiments.claims.claim import Numbers
from syncbn.experiments.claims.setup import SAMPLES, SEARCH_SEED, Context
from syncbn.experiments.training import fit_unless_diverging
from syncbn.layers import Module
from syncbn.nn import SGD
from syncbn.train import Progress, Trainer, predict
from syncbn.train.divergence import has_finite_parameters
from syncbn.train.evaluation import count_wrong
from syncbn.train.run import Labels
from syncbn.train.step import TrainingStep
from syncbn.typing import FloatArray, Int64Array

MOMENTUM = 0.9
"""Momentum of SGD."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images of a run: for training, and the held-out ones, of the search or of the test."""

    x: FloatArray
    y: Labels
    x_held_out: FloatArray
    y_held_out: Labels

    @property
    def pixels(self) -> int:
        """Number of values of an image."""
        return math.prod(self.x.shape[1:])


def images(context: Context, seed: int, pool: int = 2, samples: int | None = None) -> Images:
    """Return the images of a run with this seed, with ``pool`` × ``pool`` pixels averaged.

    The images of the search are a fixed random part of the training set, on which no run trains. The training images
    are drawn from the others, and the test images from the test set, again for each seed: a subset that suits one
    setting by chance would otherwise do so in all runs. A run with the seed of the search never sees a test image.

    Parameters
    ----------
    context : Context
    seed : int
    pool : int
    samples : int, optional
        Number of training images; None means that of the effort.
    """
    train, search, test = SAMPLES[context.setup.effort]
    inputs = context.inputs(pool)
    order = np.random.default_rng(SEARCH_SEED).permutation(len(inputs.x_train))
    rng = np.random.default_rng([seed, SEARCH_SEED])
    drawn = rng.permutation(order[search:])[: train if samples is None else samples]
    x, y = inputs.x_train[drawn], inputs.y_train[drawn]
    if seed == SEARCH_SEED:
        return Images(x, y, inputs.x_train[order[:search]], inputs.y_train[order[:search]])
    tested = rng.permutation(len(inputs.x_test))[:test]
    return Images(x, y, inputs.x_test[tested], inputs.y_test[tested])


def fit(
    model: Module,
    x: FloatArray,
    y: Labels,
    comm: Communicator,
    *,
    lr: float,
    batch: int,
    epochs: int,
    seed: int,
    decay: float = 0.0,
    on_step: Callable[[Progress], object] | None = None,
) -> bool:
    """Train with SGD and momentum; return whether the run diverged: a loss or a parameter is not finite. Collective."""
    optimizer = SGD(model.parameters(), lr, MOMENTUM, weight_decay=decay)
    trainer = Trainer(model, optimizer, comm, batch_per_rank=batch, seed=seed, drop_last=True, check_every=None)
    return fit_unless_diverging(trainer, x, y, epochs, on_step) or not has_finite_parameters(model)


def fit_batches(
    model: Module,
    x: FloatArray,
    y: Labels,
    batches: Iterable[Int64Array],
    lr: float,
    before: Callable[[Int64Array], None],
) -> bool:
    """Train on batches in a given order, in this process; return whether the run diverged, as `fit` does.

    ``before`` is called before each step with the indices of its samples.
    """
    step = TrainingStep(model, SGD(model.parameters(), lr, MOMENTUM), SERIAL)
    for batch in batches:
        result = step.run(x, y, batch, partial(before, batch))
        step.updating = False
        if not math.isfinite(result.loss):
            return True
    return not has_finite_parameters(model)


def trained(
    model: Module,
    data: Images,
    context: Context,
    key: Mapping[str, Any],
    *,
    batch: int,
    epochs: int,
    decay: float = 0.0,
    on_step: Callable[[Progress], object] | None = None,
) -> Numbers:
    """Train with the learning rate and the seed of a key, and return the result of `tested`. Collective."""
    options = {"lr": key["lr"], "seed": key["seed"], "batch": batch, "epochs": epochs, "decay": decay}
    return tested(model, data, context, fit(model, data.x, data.y, context.comm, on_step=on_step, **options))


def tested(model: Module, data: Images, context: Context, diverged: bool) -> Numbers:
    """Return the error that a run counts with, on the held-out images, and whether it diverged. Not collective."""
    found = error(model, data.x_held_out, data.y_held_out)
    return {"error": counted(found, context, diverged), "diverged": diverged}


def counted(error: float, context: Context, diverged: bool) -> float:
    """Return the error that a run counts with: that of a random guess if it diverged. Every claim counts with it."""
    return context.setup.chance if diverged else error


def error(model: Module, x: FloatArray, y: Labels, batch: int = 256) -> float:
    """Return the fraction of misclassified samples, in evaluation mode. Not collective."""
    return count_wrong(predict(model, x, batch_size=batch), y) / len(x)


def finite(value: float) -> float | None:
    """Return a number as a JSON value: None if it is infinite or NaN."""
    return float(value) if math.isfinite(value) else None
