"""Training and the search of learning rates, as all claims do them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from syncbn.comm import SERIAL, Communicator
from syncbn.experiments.claims.chart import Point, Series, point
from syncbn.experiments.claims.claim import Key, Numbers, Result
from syncbn.experiments.claims.setup import SAMPLES, SEARCH_SEED, Context
from syncbn.experiments.statistics import interval
from syncbn.experiments.training import fit_unless_diverging
from syncbn.layers import Module
from syncbn.nn import SGD, softmax_cross_entropy
from syncbn.train import Progress, Trainer, predict
from syncbn.train.evaluation import count_wrong
from syncbn.train.run import Labels
from syncbn.train.step import TrainingStep
from syncbn.typing import FloatArray, Int64Array

MOMENTUM = 0.9
"""Momentum of SGD."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images of a claim: for training, for the search, and for the test."""

    x: FloatArray
    y: Labels
    x_search: FloatArray
    y_search: Labels
    x_test: FloatArray
    y_test: Labels

    @property
    def pixels(self) -> int:
        """Number of values of an image."""
        return math.prod(self.x.shape[1:])

    def first(self, samples: int) -> Images:
        """Return the images with only the first ``samples`` for training."""
        return replace(self, x=self.x[:samples], y=self.y[:samples])

    def held_out(self, search: bool) -> tuple[FloatArray, Labels]:
        """Return the images on which a network is evaluated; the search never uses the test set."""
        return (self.x_search, self.y_search) if search else (self.x_test, self.y_test)


def images(context: Context, pool: int = 2) -> Images:
    """Return the images of the effort of this run, with ``pool`` × ``pool`` pixels averaged."""
    train, search, test = SAMPLES[context.setup.effort]
    inputs = context.inputs(pool)
    return Images(
        inputs.x_train[:train],
        inputs.y_train[:train],
        inputs.x_train[train : train + search],
        inputs.y_train[train : train + search],
        inputs.x_test[:test],
        inputs.y_test[:test],
    )


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
    """Train with SGD and momentum; return whether the run diverged. Collective."""
    optimizer = SGD(model.parameters(), lr, MOMENTUM, weight_decay=decay)
    trainer = Trainer(model, optimizer, comm, batch_per_rank=batch, seed=seed, drop_last=True, check_every=None)
    return fit_unless_diverging(trainer, x, y, epochs, on_step)


def fit_batches(
    model: Module,
    x: FloatArray,
    y: Labels,
    batches: Iterable[Int64Array],
    lr: float,
    before: Callable[[Int64Array], None],
) -> bool:
    """Train on batches in a given order, in this process; return whether the run diverged.

    ``before`` is called before each step with the indices of its samples.
    """
    step = TrainingStep(model, SGD(model.parameters(), lr, MOMENTUM), SERIAL)
    for batch in batches:
        result = step.run(x, y, batch, partial(before, batch))
        step.updating = False
        if not math.isfinite(result.loss):
            return True
    return False


def trained(
    model: Module,
    data: Images,
    context: Context,
    key: Mapping[str, Any],
    *,
    batch: int,
    epochs: int,
    decay: float = 0.0,
) -> Numbers:
    """Train with the learning rate and the seed of a key, and return the error and whether the run diverged.

    Collective. The error is that on the images of the search for a piece of the search, otherwise on the test images. A
    run that diverged has the error of a random guess.
    """
    options = {"lr": key["lr"], "seed": key["seed"], "batch": batch, "epochs": epochs, "decay": decay}
    diverged = fit(model, data.x, data.y, context.comm, **options)
    found = context.setup.chance if diverged else error(model, *data.held_out(key["seed"] == SEARCH_SEED))
    return {"error": found, "diverged": diverged}


def error(model: Module, x: FloatArray, y: Labels, batch: int = 256) -> float:
    """Return the fraction of misclassified samples, in evaluation mode. Not collective."""
    return count_wrong(predict(model, x, batch_size=batch), y) / len(x)


def loss(model: Module, x: FloatArray, y: Labels) -> float:
    """Return the mean cross-entropy, in evaluation mode. Not collective."""
    return float(softmax_cross_entropy(predict(model, x), y)[0])


def finite(value: float) -> float | None:
    """Return a number as a JSON value: None if it is infinite or NaN."""
    return float(value) if math.isfinite(value) else None


def search_table(found: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the report of a search as JSON values: the error of each variant and learning rate."""
    return [
        {**{name: value for name, value in result.key.items() if name != "seed"}, "error": result.numbers["error"]}
        for result in found
    ]


def values(results: Sequence[Result], name: str, **setting: Any) -> list[Any]:
    """Return a number of all results with this setting, in the order of the seeds."""
    chosen = sorted((result for result in results if result.matches(**setting)), key=lambda result: result.key["seed"])
    if not chosen:
        raise ValueError(f"no result has the setting {setting}")
    return [result.numbers[name] for result in chosen]


def lines(
    results: Sequence[Result],
    number: str,
    settings: Mapping[str, Key],
    axis: str,
    places: Sequence[Any],
    factor: float = 100.0,
) -> list[Series]:
    """Return a line for each label and setting: a number of the results, by the value of ``axis`` in their keys."""

    def at(setting: Key, place: Any) -> Point:
        found = [result for result in results if result.matches(**setting, **{axis: place})]
        diverged = sum(bool(result.numbers.get("diverged")) for result in found)
        note = f", {diverged} of {len(found)} diverged" if diverged else ""
        return point(place, values(found, number), factor, note)

    return [Series(label, [at(setting, place) for place in places]) for label, setting in settings.items()]


def cells(results: Sequence[Result], *numbers: str) -> list[dict[str, Any]]:
    """Return the summary of these numbers over the seeds of each setting, as JSON values."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        setting = {name: value for name, value in result.key.items() if name != "seed"}
        groups.setdefault(json.dumps(setting), []).append(result)
    return [
        {**json.loads(setting), **{number: summary(values(group, number)) for number in numbers}}
        for setting, group in groups.items()
    ]


def summary(numbers: Sequence[float | None]) -> dict[str, Any]:
    """Return mean, half width of the interval and count as JSON values; a mean of None if a number is None."""
    known = [number for number in numbers if number is not None]
    found = asdict(interval(known)) if len(known) == len(numbers) else {"mean": None, "half_width": None}
    return {**found, "count": len(numbers)}
