"""Running statistics: what batch and instance normalization remember for evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn._core.checks import check_integer
from syncbn.functional.batch_norm import InferenceBackward, normalize_with
from syncbn.layers._affine import floating_dtype
from syncbn.layers.module import Module
from syncbn.moments import Moments, update_running
from syncbn.typing import FloatArray


class RunningStatistics(Module):
    """A module with buffers ``running_mean``, ``running_var`` and ``num_batches_tracked``, or with None for each."""

    running_mean: FloatArray | None
    running_var: FloatArray | None
    num_batches_tracked: NDArray[Any] | None
    eps: float
    channel_axis: int

    def __init__(self, num_features: int, momentum: float | None, track: bool, dtype: DTypeLike) -> None:
        super().__init__()
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1] or None, got {momentum!r}")
        self.num_features = check_integer("num_features", num_features)
        self.momentum = momentum
        self.track_running_stats = track
        dtype = floating_dtype(dtype)
        self.register_buffer("running_mean", np.zeros(num_features, dtype) if track else None)
        self.register_buffer("running_var", np.ones(num_features, dtype) if track else None)
        self.register_buffer("num_batches_tracked", np.array(0, np.int64) if track else None)

    def reset_running_stats(self) -> None:
        """Set mean 0, variance 1, and no batch seen."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean[...] = 0
            self.running_var[...] = 1
            self.num_batches_tracked[...] = 0

    def _normalize_with_running(
        self,
        x: FloatArray,
        weight: FloatArray | None,
        bias: FloatArray | None,
        residual: FloatArray | None = None,
        relu: bool = False,
        out: FloatArray | None = None,
    ) -> tuple[FloatArray, InferenceBackward] | None:
        """Return y and its backward in evaluation with running statistics, else None."""
        if self.training or self.running_mean is None or self.running_var is None:
            return None
        return normalize_with(
            x,
            self.running_mean,
            self.running_var,
            weight,
            bias,
            self.eps,
            self.channel_axis,
            residual,
            relu,
            out,
            channels=self.num_features,
        )

    def _track(self, moments: Moments) -> None:
        """Move the running statistics towards this batch; momentum None is the cumulative average."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        if moments.count == 0:
            return
        self.num_batches_tracked += 1
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        update_running(self.running_mean, self.running_var, moments, momentum)
