"""Batch normalization layers, local and synchronized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from syncbn._core import plans
from syncbn._core.checks import Reduction
from syncbn.comm import CommLike, as_communicator, world
from syncbn.layers._batch import BatchNormalizer
from syncbn.other_libraries import NAMES, unknown
from syncbn.pitfalls import see
from syncbn.typing import BackwardOf, ResidualBackwardOf, ScalarT


class BatchNorm(BatchNormalizer):
    r"""Batch normalization with the statistics of this process alone.

    .. math:: y = γ\,\frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}} + β

    Not collective.

    In training, μ and var are the mean and the biased variance of the batch, and the running statistics are
    updated with μ and the unbiased variance. In evaluation, μ and var are the running statistics, or those of
    the batch if ``track_running_stats`` is False.

    Parameters
    ----------
    num_features : int
        Number of channels, C: the size of x's channel axis.
    eps : float
        Constant added to the variance, finite and at least 0.
    momentum : float or None
        Weight of the new value in the running statistics (in Keras, momentum is the weight of the old value).
        None means the cumulative average.
    affine : bool
        Whether there are γ (``weight``) and β (``bias``).
    track_running_stats : bool
        Whether there are running statistics.
    weight, bias : bool
        Whether there is γ, and whether there is β, if ``affine`` is True.
    dtype : dtype
        Dtype of parameters and running statistics. y has x's dtype.
    channel_axis : int
        Channel axis of x; -1 is channels-last.

    Attributes
    ----------
    weight, bias : Parameter or None
        γ and β, of shape (C,).
    running_mean, running_var : ndarray or None
        Running statistics, of shape (C,).
    num_batches_tracked : ndarray or None
        Number of batches in the running statistics, a 0-d array of int64.
    moments : Moments or None
        Count, mean and variance of the last batch in training.

    Raises
    ------
    ValueError, TypeError
        From the constructor or the call: invalid arguments; in training also a single value per channel.

    See Also
    --------
    syncbn.SyncBatchNorm : The layer with the statistics of all ranks.
    syncbn.functional.batch_norm : The function.

    References
    ----------
    Ioffe & Szegedy 2015, arXiv:1502.03167.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import BatchNorm
    >>> x = np.random.default_rng(0).normal(5, 2, (8, 3)).astype(np.float32)
    >>> layer = BatchNorm(3)
    >>> y, backward = layer(x)
    >>> dx = backward(np.ones_like(y))  # adds to layer.weight.grad and layer.bias.grad
    >>> layer.bias.grad
    array([8., 8., 8.], dtype=float32)
    >>> layer.running_mean.round(2)  # 0.9 of the old mean, 0, and 0.1 of that of the batch
    array([0.47, 0.48, 0.48], dtype=float32)
    >>> y, _ = layer.eval()(x)
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        weight: bool = True,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        channel_axis: int = 1,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, weight, bias, track_running_stats, dtype, channel_axis)

    @overload
    def forward(
        self,
        x: NDArray[ScalarT],
        mask: ArrayLike | None = None,
        *,
        residual: None = None,
        relu: bool = False,
        out: NDArray[ScalarT] | None = None,
    ) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]: ...
    @overload
    def forward(
        self,
        x: NDArray[ScalarT],
        mask: ArrayLike | None = None,
        *,
        residual: NDArray[ScalarT],
        relu: bool = False,
        out: NDArray[ScalarT] | None = None,
    ) -> tuple[NDArray[ScalarT], ResidualBackwardOf[ScalarT]]: ...
    def forward(
        self,
        x: NDArray[ScalarT],
        mask: ArrayLike | None = None,
        *,
        residual: NDArray[ScalarT] | None = None,
        relu: bool = False,
        out: NDArray[ScalarT] | None = None,
    ) -> tuple[NDArray[ScalarT], Any]:
        """Return y and its backward, which returns dx, or with a residual (dx, dresidual).

        `syncbn.functional.batch_norm` describes ``mask``, ``residual``, ``relu`` and ``out``. A mask has no effect
        if the running statistics are used. Do not change x or ``residual`` before the backward is called.
        """
        if self._uses_running_statistics:
            return self._normalize_with_running(x, residual, relu, out)
        y, moments, gradients = plans.batch_norm(
            x,
            *self._arrays(),
            self.eps,
            self.channel_axis,
            mask,
            self.reduction,
            residual,
            relu,
            out,
            self.num_features,
            self.comm._distributed if self.training else None,
            self._identity,
        )
        if self.training:
            self._observe([moments])
        return y, self._backward(gradients)

    if TYPE_CHECKING:
        __call__ = forward

    def load_keras_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Copy the result of ``keras.layers.BatchNormalization.get_weights()`` into this layer.

        If it raises an error, no value has changed. The defaults of Keras are ``epsilon=1e-3`` and
        ``momentum=0.99``; in syncbn these are ``eps=1e-3`` and ``momentum=0.01``.

        Parameters
        ----------
        weights : sequence of array_like
            gamma, beta, moving_mean and moving_variance in this order, without those that the layer does not
            have (``weight=False`` for ``scale=False`` in Keras, ``bias=False`` for ``center=False``).

        Raises
        ------
        ValueError
            The number of arrays or a shape is wrong, or the layer has no running statistics.
        TypeError
            ``weights`` is not a sequence, or a value is not a real number.
        """
        if not self.track_running_stats:
            raise ValueError(
                "Keras's layers have moving statistics: build this one with track_running_stats=True"
                f"{see('weights-of-keras')}"
            )
        names = [name for name, parameter in (("weight", self.weight), ("bias", self.bias)) if parameter is not None]
        names += ["running_mean", "running_var"]
        if isinstance(weights, str) or not isinstance(weights, Sequence):
            raise TypeError(
                "load_keras_weights expects the list of arrays that keras_layer.get_weights() returns, got "
                f"{type(weights).__name__}{see('weights-of-keras')}"
            )
        if len(weights) != len(names):
            raise ValueError(
                f"expected {len(names)} arrays for {', '.join(names)}, got {len(weights)}: build the layer with "
                f"weight=False for scale=False, with bias=False for center=False{see('weights-of-keras')}"
            )
        self.load_state_dict({**self.state_dict(), **dict(zip(names, weights, strict=True))})


class SyncBatchNorm(BatchNorm):
    r"""Batch normalization with the statistics of the batches of all ranks.

    Collective in training: every rank must call forward and then backward, in the same order of layers.
    Evaluation never communicates.

    .. math:: y = γ\,\frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}} + β

    The result is that of `BatchNorm` on the concatenated batch. With ``reduction="exact"`` it has the same
    bits, for every number of ranks and every split of the samples; ranks may have different numbers of
    samples, or none. The running variance is unbiased, with the number of values over all ranks. ``weight.grad`` and
    ``bias.grad`` are local sums of this rank: sum or average them over ranks once, with the other gradients.

    Parameters
    ----------
    num_features : int
        Number of channels, C: the size of x's channel axis.
    eps : float
        Constant added to the variance, finite and at least 0.
    momentum : float or None
        Weight of the new value in the running statistics. None means the cumulative average.
    affine : bool
        Whether there are γ (``weight``) and β (``bias``).
    track_running_stats : bool
        Whether there are running statistics.
    comm : syncbn communicator, mpi4py.MPI.Intracomm or None
        Ranks that share the statistics. None means ``MPI.COMM_WORLD``. `MPIComm.split` makes groups of ranks.
    weight, bias : bool
        Whether there is γ, and whether there is β, if ``affine`` is True.
    dtype : dtype
        Dtype of parameters and running statistics. y has x's dtype.
    channel_axis : int
        Channel axis of x; -1 is channels-last.
    reduction : {"exact", "float64"}
        How sums are computed, as described in `syncbn.functional.batch_norm`.

    Raises
    ------
    ImportError
        ``comm`` is None, and mpi4py or the MPI library is missing.
    ValueError, TypeError
        From the constructor or the call: invalid arguments of this rank, or a single value per channel over all
        ranks.
    SyncMismatchError
        From the call: another rank had invalid input, or made a different call.
    SyncLostRankError, SyncTimeoutError
        From the call: another rank did not enter it.

    See Also
    --------
    syncbn.BatchNorm : The layer with the statistics of one process.
    syncbn.functional.batch_norm : The function.
    syncbn.torch.SyncBatchNorm : The layer for PyTorch.

    References
    ----------
    Peng et al. 2018, MegDet, arXiv:1711.07240; Ioffe & Szegedy 2015, arXiv:1502.03167.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import MPIComm, SyncBatchNorm
    >>> x = np.random.default_rng(0).normal(5, 2, (8, 3)).astype(np.float32)
    >>> world = MPIComm()
    >>> layer = SyncBatchNorm(3, comm=world)
    >>> y, backward = layer(x)  # statistics of the samples of all ranks
    >>> dx = backward(np.ones_like(y))
    >>> layer.moments.count == 8 * world.size
    True
    """

    def __init__(
        self,
        num_features: int,
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
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            weight=weight,
            bias=bias,
            dtype=dtype,
            channel_axis=channel_axis,
        )
        self._synchronize(world() if comm is None else as_communicator(comm), reduction)

    if not TYPE_CHECKING:  # so that a type checker reports an unknown name

        @classmethod
        def convert_sync_batchnorm(cls, *_arguments: Any, **_options: Any) -> None:
            """Raise AttributeError: models of PyTorch are converted by `syncbn.torch.convert_sync_batchnorm`."""
            name = "convert_sync_batchnorm"
            raise AttributeError(unknown(f"class {cls.__name__!r}", name, NAMES), name=name, obj=cls)
