"""The instance normalization layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from syncbn._core import plans
from syncbn.layers._running import RunningNormalizer
from syncbn.moments import Moments
from syncbn.typing import Backward, FloatArray


class InstanceNorm(RunningNormalizer):
    r"""Instance normalization: statistics of each sample's channel.

    In training and, with the default ``track_running_stats=False``, in evaluation x is normalized with
    its own statistics. With running statistics, these are averages of the samples' means and unbiased
    variances, and evaluation uses them. Batched input only: axis 0 (or 1, where channels are axis 0)
    is the sample axis.

    Not collective.

    Parameters
    ----------
    num_features : int
        C, the size of x's channel axis.
    eps : float
    momentum : float or None
        Weight of the new value in the running statistics; None is the cumulative average.
    affine : bool
        Whether there are γ (``weight``) and β (``bias``), of shape (C,).
    track_running_stats : bool
    bias : bool
        False: γ alone.
    dtype : dtype
        Of parameters and running statistics.
    channel_axis : int

    Raises
    ------
    ValueError, TypeError
        Bad parameters; from the call, bad input or one value per channel and sample.

    References
    ----------
    Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        channel_axis: int = 1,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, bias, track_running_stats, dtype, channel_axis)

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y and its backward."""
        if self._uses_running_statistics:
            return self._normalize_with_running(x)
        y, mean, var, size, gradients = plans.instance_norm(
            x, *self._arrays(), self.eps, self.channel_axis, self.num_features
        )
        if self.training and mean.size:
            self._track(Moments(size, mean.mean(axis=0), var.mean(axis=0)))
        return y, self._backward(gradients)
