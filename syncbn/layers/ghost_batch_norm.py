"""The ghost batch normalization layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn._core.checks import Reduction, check_channels, check_input, check_integer
from syncbn.comm import SERIAL, CommLike, as_communicator
from syncbn.functional.ghost_batch_norm import ghost_batch_norm
from syncbn.layers._batch import BatchNormalizer
from syncbn.typing import BackwardOf, ScalarT


class GhostBatchNorm(BatchNormalizer):
    r"""Batch normalization with the statistics of virtual batches, parts of the batch, as if the batch were smaller.

    .. math:: y = γ\,\frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}} + β

    Collective in training if there is a ``comm``. Evaluation never communicates.

    In training, the samples of all ranks of ``comm`` are divided into virtual batches as described in
    `syncbn.functional.ghost_batch_norm`, and the running statistics are updated with the mean and the unbiased variance
    of one virtual batch after the other. In evaluation, μ and var are the running statistics, or those of this rank's
    virtual batches if ``track_running_stats`` is False.

    Parameters
    ----------
    num_features : int
        Number of channels, C: the size of x's channel axis.
    virtual_batch_size : int
        Maximum number of samples of a virtual batch, over all ranks.
    eps : float
        Constant added to the variance, finite and at least 0.
    momentum : float or None
        Weight of the value of one virtual batch in the running statistics. None means the cumulative average.
    affine : bool
        Whether there are γ (``weight``) and β (``bias``).
    track_running_stats : bool
        Whether there are running statistics.
    comm : syncbn communicator, mpi4py.MPI.Intracomm or None
        Ranks whose batches are divided together. None means this process only.
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
        Count, mean and variance of the whole last batch in training.

    Raises
    ------
    ValueError, TypeError
        From the constructor or the call: invalid arguments of this rank, or a single value per channel in a virtual
        batch.
    SyncMismatchError
        From the call: another rank had invalid input, or made a different call.

    See Also
    --------
    syncbn.functional.ghost_batch_norm : The function.

    References
    ----------
    Hoffer, Hubara & Soudry 2017, Train longer, generalize better, arXiv:1705.08741, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import GhostBatchNorm
    >>> layer = GhostBatchNorm(3, 32)
    >>> y, backward = layer(np.random.default_rng(0).normal(5, 2, (64, 3)).astype(np.float32))
    """

    def __init__(
        self,
        num_features: int,
        virtual_batch_size: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        comm: CommLike = None,
        *,
        weight: bool = True,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        channel_axis: int = 1,
        reduction: Reduction = "exact",
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, weight, bias, track_running_stats, dtype, channel_axis)
        self.virtual_batch_size: int = check_integer("virtual_batch_size", virtual_batch_size)
        self._synchronize(as_communicator(comm), reduction)

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return f"{super().extra_repr()}, virtual_batch_size={self.virtual_batch_size}"

    def forward(self, x: NDArray[ScalarT]) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y and its backward. Do not change x before the backward is called."""
        if self._uses_running_statistics:
            return self._normalize_with_running(x)
        x, axis = check_input(x, self.channel_axis)
        check_channels(x.shape, axis, self.num_features)
        y, moments, gradients = ghost_batch_norm(
            x,
            self.virtual_batch_size,
            *self._arrays(),
            eps=self.eps or 0.0,
            channel_axis=axis,
            comm=self.comm if self.training else SERIAL,
            reduction=self.reduction,
            name=self._identity,
        )
        if self.training:
            self._observe(moments)
        return y, self._backward(gradients)

    if TYPE_CHECKING:
        __call__ = forward
