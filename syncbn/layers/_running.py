"""Base class of normalizers with running statistics, which evaluation uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn._core import plans
from syncbn._core.checks import check_eps, check_flag, check_integer, check_momentum
from syncbn.layers._affine import AffineNormalizer
from syncbn.layers.parameter import floating_dtype
from syncbn.typing import Float64Array, FloatArray, ScalarT


class RunningNormalizer(AffineNormalizer):
    """A normalizer with buffers ``running_mean``, ``running_var`` and ``num_batches_tracked``, or with None for each.

    Parameters
    ----------
    num_features, eps, momentum, affine, weight, bias, track_running_stats, dtype, channel_axis
        Parameters as described in `syncbn.BatchNorm`.
    """

    running_mean: FloatArray | None
    running_var: FloatArray | None
    num_batches_tracked: NDArray[Any] | None

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        weight: bool,
        bias: bool,
        track_running_stats: bool,
        dtype: DTypeLike,
        channel_axis: int,
    ) -> None:
        self.num_features: int = check_integer("num_features", num_features)
        super().__init__(self.num_features, check_eps(eps), affine, weight, bias, dtype)
        self.momentum = momentum
        self.track_running_stats: bool = check_flag("track_running_stats", track_running_stats)
        track = self.track_running_stats
        self.channel_axis: int = check_integer("channel_axis", channel_axis, None)
        self.register_buffer("running_mean", np.zeros(num_features, floating_dtype(dtype)) if track else None)
        self.register_buffer("running_var", np.ones(num_features, floating_dtype(dtype)) if track else None)
        self.register_buffer("num_batches_tracked", np.array(0, np.int64) if track else None)

    @property
    def momentum(self) -> float | None:
        """Weight of the new value in the running statistics; None means the cumulative average."""
        return self._momentum

    @momentum.setter
    def momentum(self, value: float | None) -> None:
        check_momentum(value)
        self._momentum = value

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1, and the number of batches to 0."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean[...] = 0
            self.running_var[...] = 1
            self.num_batches_tracked[...] = 0

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, {self._repr_affine()}, "
            f"track_running_stats={self.track_running_stats}"
        )

    @property
    def _uses_running_statistics(self) -> bool:
        return not self.training and self.running_mean is not None

    def _normalize_with_running(
        self,
        x: NDArray[ScalarT],
        residual: NDArray[ScalarT] | None = None,
        relu: bool = False,
        out: NDArray[ScalarT] | None = None,
    ) -> tuple[NDArray[ScalarT], Callable[[FloatArray], Any]]:
        """Return y, normalized with the running statistics, and its backward."""
        y, gradients = plans.batch_norm_inference(
            x,
            self.running_mean,
            self.running_var,
            *self._arrays(),
            self.eps,
            self.channel_axis,
            residual,
            relu,
            out,
            self.num_features,
        )
        return y, self._backward(gradients)

    def _track(self, mean: Float64Array, var: Float64Array, factor: float = 1.0) -> None:
        """Update the running statistics with ``mean`` and ``factor * var``, which is unbiased.

        With momentum None they are the averages over all batches.
        """
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        batches = self.num_batches_tracked
        batches += 1  # in place, without an assignment to the attribute
        momentum = 1.0 / float(batches) if self.momentum is None else self.momentum
        plans.update_average(self.running_mean, mean, momentum)
        plans.update_average(self.running_var, var, momentum, factor)
