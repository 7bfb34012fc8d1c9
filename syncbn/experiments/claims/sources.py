"""Statistics for evaluation from several sources: moving averages, recalibration, and the batch itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from syncbn.experiments.claims.models import batch_norms
from syncbn.layers import BatchNorm, Module
from syncbn.moments import update_average
from syncbn.typing import Float64Array, FloatArray

Statistics = list[tuple[FloatArray, FloatArray]]
"""Running mean and variance of each batch normalization layer."""


class TrackingBatchNorm(BatchNorm):
    """Batch normalization with the moving averages of several momenta at once; they do not influence training.

    Parameters
    ----------
    num_features : int
    momenta : sequence of float or None
        Weights of the new value; None means the cumulative average.

    Attributes
    ----------
    averages : list of (mean, var)
        Moving averages for each momentum.
    observing : bool
        Whether a forward in training updates the averages.
    """

    def __init__(self, num_features: int, momenta: Sequence[float | None]) -> None:
        super().__init__(num_features)
        self.momenta = momenta
        self.averages = [(np.zeros(num_features), np.ones(num_features)) for _ in momenta]
        self.batches = 0
        self.observing = True

    def _track(self, mean: Float64Array, unbiased_var: Float64Array) -> None:
        super()._track(mean, unbiased_var)
        if not self.observing:
            return
        self.batches += 1
        for averages, momentum in zip(self.averages, self.momenta, strict=True):
            for average, value in zip(averages, (mean, unbiased_var), strict=True):
                update_average(average, value, 1.0 / self.batches if momentum is None else momentum)


def averages(model: Module, position: int) -> Statistics:
    """Return the moving averages of the momentum at this position."""
    return [layer.averages[position] for layer in batch_norms(model) if isinstance(layer, TrackingBatchNorm)]


def population(model: Module, x: FloatArray, batch: int) -> Statistics:
    """Return the averages of the statistics of all batches of x with the present weights, which do not change.

    This recalibration is called PreciseBN (Wu & Johnson 2021). The mean of the variances of batches estimates the
    population's variance for batches as in training.
    """
    layers = list(batch_norms(model))
    state, momenta = model.state_dict(), [layer.momentum for layer in layers]
    modes = [(module, module.training) for _, module in model.named_modules()]
    for layer in layers:
        layer.momentum = None
        layer.reset_running_stats()
        if isinstance(layer, TrackingBatchNorm):
            layer.observing = False
    model.train()
    try:
        for start in range(0, len(x) // batch * batch, batch):
            model(x[start : start + batch])
        return [(np.array(layer.running_mean), np.array(layer.running_var)) for layer in layers]
    finally:
        model.load_state_dict(state)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            if isinstance(layer, TrackingBatchNorm):
                layer.observing = True
        for module, training in modes:
            module.training = training


@contextmanager
def evaluated_with(model: Module, statistics: Statistics | None) -> Iterator[None]:
    """Let evaluation use these statistics during the ``with`` block; None means those of each batch itself."""
    layers = list(batch_norms(model))
    saved = [(layer.running_mean, layer.running_var) for layer in layers]
    chosen = statistics if statistics is not None else [(None, None)] * len(layers)
    for layer, (mean, var) in zip(layers, chosen, strict=True):
        layer.running_mean, layer.running_var = mean, var
    try:
        yield
    finally:
        for layer, (mean, var) in zip(layers, saved, strict=True):
            layer.running_mean, layer.running_var = mean, var
