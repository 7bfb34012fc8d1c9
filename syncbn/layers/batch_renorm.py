"""The batch renormalization layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from syncbn._core.checks import Reduction, check_channels, check_input, check_integer
from syncbn.comm import CommLike, as_communicator
from syncbn.functional.batch_renorm import batch_renorm, check_limit
from syncbn.layers._batch import BatchNormalizer
from syncbn.typing import BackwardOf, ScalarT


@dataclass(frozen=True)
class LinearRamp:
    """A number that is ``first`` until step ``start``, ``last`` from step ``stop`` on, and linear between them.

    Parameters
    ----------
    first, last : float
    start, stop : int
        Steps, counted from 0.

    Raises
    ------
    ValueError, TypeError
        ``start`` is greater than ``stop``, or an argument is not a number.

    See Also
    --------
    syncbn.BatchRenorm : The layer whose limits grow.

    Examples
    --------
    >>> from syncbn.layers import LinearRamp
    >>> r_max = LinearRamp(first=1.0, last=3.0, start=5000, stop=40000)
    >>> r_max(0), r_max(22500), r_max(100000)
    (1.0, 2.0, 3.0)
    """

    first: float
    last: float
    start: int
    stop: int

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name, limit in (("first", self.first), ("last", self.last)):
            check_limit(name, limit, -math.inf)
        for name, step in (("start", self.start), ("stop", self.stop)):
            check_integer(name, step, 0)
        if self.start > self.stop:
            raise ValueError(f"a LinearRamp needs start <= stop, got start={self.start}, stop={self.stop}")

    def __call__(self, step: int) -> float:
        """Return the number at a step."""
        return float(np.interp(step, (self.start, self.stop), (self.first, self.last)))


Limit = float | Callable[[int], float]
"""A number, or a function of the number of earlier batches."""


class BatchRenorm(BatchNormalizer):
    r"""Batch normalization whose statistics are corrected towards the running statistics in training.

    .. math:: y = γ\,(\hat{x} r + d) + β, \qquad \hat{x} = \frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}}

    Collective in training if there is a ``comm``. Evaluation never communicates.

    In training, r and d are the corrections described in `syncbn.functional.batch_renorm`, with the running statistics
    before the batch, which then updates them. They are limited by ``r_max`` and ``d_max``, whose defaults are the
    schedules of the paper: batch normalization in the first 5,000 steps, then growing corrections. In evaluation, y is
    normalized with the running statistics, as by `BatchNorm`.

    Parameters
    ----------
    num_features : int
        Number of channels, C: the size of x's channel axis.
    eps : float
        Constant added to the variances, finite and at least 0.
    momentum : float or None
        Weight of the new value in the running statistics. None means the cumulative average. The paper uses 0.01.
    affine : bool
        Whether there are γ (``weight``) and β (``bias``).
    comm : syncbn communicator, mpi4py.MPI.Intracomm or None
        Ranks that share the statistics. None means this process only.
    r_max, d_max : float or callable
        Limits of the corrections, at least 1 and 0: numbers, or functions of the number of earlier batches
        (``num_batches_tracked``), such as `LinearRamp`.
    weight, bias : bool
        Whether there is γ, and whether there is β, if ``affine`` is True.
    dtype : dtype
        Dtype of parameters and running statistics. y has x's dtype.
    channel_axis : int
        Channel axis of x; -1 is channels-last.
    reduction : {"exact", "float64"}
        How sums are computed, as described in `syncbn.functional.batch_norm`.

    Attributes
    ----------
    moments : Moments or None
        Count, mean and variance of the last batch in training.

    Raises
    ------
    ValueError, TypeError
        From the constructor or the call: invalid arguments of this rank, or a single value per channel over all ranks.
    SyncMismatchError
        From the call: another rank had invalid input, or made a different call.

    See Also
    --------
    syncbn.functional.batch_renorm : The function.
    syncbn.layers.LinearRamp : The growth of the limits.

    References
    ----------
    Ioffe 2017, Batch renormalization: towards reducing minibatch dependence in batch-normalized models,
    arXiv:1702.03275.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import BatchRenorm
    >>> x = np.random.default_rng(0).normal(5, 2, (8, 3)).astype(np.float32)
    >>> layer = BatchRenorm(3, r_max=3.0, d_max=5.0)
    >>> y, backward = layer(x)
    >>> dx = backward(y)
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        comm: CommLike = None,
        *,
        r_max: Limit = LinearRamp(1.0, 3.0, 5_000, 40_000),
        d_max: Limit = LinearRamp(0.0, 5.0, 5_000, 25_000),
        weight: bool = True,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        channel_axis: int = 1,
        reduction: Reduction = "exact",
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, weight, bias, True, dtype, channel_axis)
        for name, limit, least in (("r_max", r_max, 1), ("d_max", d_max, 0)):
            if not callable(limit):
                check_limit(name, limit, least)
        self.r_max = r_max
        self.d_max = d_max
        self._synchronize(as_communicator(comm), reduction)

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, {self._repr_affine()}, "
            f"r_max={self.r_max}, d_max={self.d_max}"
        )

    def forward(
        self, x: NDArray[ScalarT], mask: ArrayLike | None = None
    ) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y and its backward. Do not change x before the backward is called.

        `syncbn.functional.batch_norm` describes ``mask``, which has no effect in evaluation.
        """
        if not self.training:
            return self._normalize_with_running(x)
        x, axis = check_input(x, self.channel_axis)
        check_channels(x.shape, axis, self.num_features)
        step = int(self.num_batches_tracked)  # type: ignore[arg-type]  # there are running statistics
        running_mean: Any = self.running_mean
        running_var: Any = self.running_var
        weight, bias = self._arrays()
        y, moments, gradients = batch_renorm(
            x,
            running_mean,
            running_var,
            weight,
            bias,
            r_max=self.r_max(step) if callable(self.r_max) else self.r_max,
            d_max=self.d_max(step) if callable(self.d_max) else self.d_max,
            eps=self.eps or 0.0,
            channel_axis=axis,
            mask=mask,
            comm=self.comm,
            reduction=self.reduction,
            name=self._identity,
        )
        self._observe([moments])
        return y, self._backward(gradients)

    if TYPE_CHECKING:
        __call__ = forward
