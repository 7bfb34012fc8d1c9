"""Statistics for evaluation from several sources: moving averages, recalibration, and the batch itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from syncbn._core.plans import update_average
from syncbn.comm import SERIAL
from syncbn.experiments.claims.models import batch_norms
from syncbn.layers import BatchNorm, Module
from syncbn.train import update_bn
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
        Moving averages for each momentum, which are buffers.
    """

    def __init__(self, num_features: int, momenta: Sequence[float | None]) -> None:
        super().__init__(num_features)
        self.momenta = momenta
        self.averages: Statistics = [(np.zeros(num_features), np.ones(num_features)) for _ in momenta]
        for number, (mean, var) in enumerate(self.averages):
            self.register_buffer(f"mean_{number}", mean)
            self.register_buffer(f"var_{number}", var)

    def _track(self, mean: Float64Array, var: Float64Array, factor: float = 1.0) -> None:
        super()._track(mean, var, factor)
        batches = float(self.num_batches_tracked)  # type: ignore[arg-type]  # it has running statistics
        for averages, momentum in zip(self.averages, self.momenta, strict=True):
            weight = 1.0 / batches if momentum is None else momentum
            update_average(averages[0], mean, weight)
            update_average(averages[1], var, weight, factor)


def averages(model: Module, position: int) -> Statistics:
    """Return the moving averages of the momentum at this position."""
    return [layer.averages[position] for layer in batch_norms(model) if isinstance(layer, TrackingBatchNorm)]


def recalibrated(model: Module, x: FloatArray, batch: int) -> Statistics:
    """Return the statistics that `syncbn.train.update_bn` finds in x, in this process. The model does not change."""
    state = model.state_dict()
    update_bn(x, model, SERIAL, batch_size=batch)
    found = [(np.array(layer.running_mean), np.array(layer.running_var)) for layer in batch_norms(model)]
    model.load_state_dict(state)
    return found


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
