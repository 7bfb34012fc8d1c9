"""Batch normalization layers, of one process and synchronized."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from syncbn._core import plans
from syncbn._core.checks import Reduction, check_reduction
from syncbn.comm import SERIAL, CommLike, Communicator, as_communicator, world
from syncbn.layers._running import RunningNormalizer
from syncbn.typing import FloatArray


class BatchNorm(RunningNormalizer):
    r"""Batch normalization with the statistics of this process alone.

    .. math:: y = \gamma\,(x-\mu)/\sqrt{\mathrm{var}+\epsilon} + \beta

    In training, μ and the biased var are those of the batch, and the running statistics move towards
    μ and the unbiased variance. In evaluation the running statistics are used, or, with
    ``track_running_stats=False``, this batch's own.

    Not collective.

    Parameters
    ----------
    num_features : int
        C, the size of x's channel axis.
    eps : float
        Added to the variance.
    momentum : float or None
        Weight of the new value in the running statistics (Keras's convention is the weight of the old
        one); None is the cumulative average.
    affine : bool
        Whether there are γ (``weight``) and β (``bias``).
    track_running_stats : bool
    bias : bool
        False: γ alone.
    dtype : dtype
        Of parameters and running statistics. y has x's dtype.
    channel_axis : int
        -1 is channels-last.

    Attributes
    ----------
    weight, bias : Parameter or None
        Shape (C,).
    running_mean, running_var : ndarray or None
        Shape (C,).
    num_batches_tracked : ndarray or None
        0-d int64.

    Raises
    ------
    ValueError, TypeError
        From the call: x isn't real floating, has other than C channels, or one value per channel in
        training.

    References
    ----------
    Ioffe & Szegedy 2015, arXiv:1502.03167.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        channel_axis: int = 1,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, bias, track_running_stats, dtype, channel_axis)
        self.comm: Communicator = SERIAL
        self.reduction = "exact"
        self._identity = type(self).__name__

    def forward(
        self,
        x: FloatArray,
        mask: ArrayLike | None = None,
        *,
        residual: FloatArray | None = None,
        relu: bool = False,
        out: FloatArray | None = None,
    ) -> tuple[FloatArray, Callable[[FloatArray], Any]]:
        """Return y and its backward, which with a residual returns (dx, dresidual), else dx.

        ``mask`` (training only), ``residual``, ``relu`` and ``out`` as in `syncbn.functional.batch_norm`.
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
            self._track(moments)
        return y, self._backward(gradients)

    def __call__(self, x: FloatArray, mask: ArrayLike | None = None, **options: Any) -> tuple[FloatArray, Any]:
        """Call `forward`."""
        return self.forward(x, mask, **options)

    def load_keras_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Copy in what ``keras.layers.BatchNormalization.get_weights()`` gives.

        Parameters
        ----------
        weights : sequence of array_like
            gamma, beta, moving_mean, moving_variance, in this order and without those that the layer
            does not have (``scale=False``, ``center=False``). Keras's defaults are eps=1e-3 and
            momentum=0.99, which is ``momentum=0.01`` here.

        Raises
        ------
        ValueError
            Another number of arrays, or another shape; nothing has been changed then.
        TypeError
            Values that aren't real numbers; likewise.
        """
        names = [name for name, parameter in (("weight", self.weight), ("bias", self.bias)) if parameter is not None]
        names += ["running_mean", "running_var"] if self.track_running_stats else []
        if len(weights) != len(names):
            raise ValueError(f"expected {len(names)} arrays for {', '.join(names)}, got {len(weights)}")
        self.load_state_dict({**self.state_dict(), **dict(zip(names, weights, strict=True))})


class SyncBatchNorm(BatchNorm):
    r"""Batch normalization with the statistics of all ranks' batches.

    Collective in training: every rank calls forward and then backward, in the same order of layers.
    Evaluation never communicates.

    The result is that of `BatchNorm` on the concatenated batch; with ``reduction="exact"`` bit for bit,
    for every number of ranks and every split of the samples, uneven and empty ones included. The
    running variance is unbiased with the count of all ranks. ``weight.grad`` and ``bias.grad`` are this
    rank's share: sum (or average) them over ranks once, with the other gradients.

    Parameters
    ----------
    num_features : int
        C, the size of x's channel axis.
    eps : float
        Added to the variance.
    momentum : float or None
        Weight of the new value in the running statistics; None is the cumulative average.
    affine : bool
        Whether there are γ (``weight``) and β (``bias``).
    track_running_stats : bool
    comm : syncbn communicator, mpi4py.MPI.Intracomm or None
        The ranks that share statistics. None is ``MPI.COMM_WORLD``. Use `MPIComm.split` for groups.
    bias : bool
        False: γ alone.
    dtype : dtype
        Of parameters and running statistics. y has x's dtype.
    channel_axis : int
        -1 is channels-last.
    reduction : {"exact", "float64"}
        How sums cross ranks.

    Raises
    ------
    ImportError
        ``comm`` is None or from mpi4py, and mpi4py or the MPI library is not there.
    ValueError, TypeError
        From the call: bad input of this rank, or one value per channel over all ranks.
    SyncMismatchError
        From the call: another rank had bad input or called something else.

    References
    ----------
    Peng et al. 2018, MegDet, arXiv:1711.07240; Ioffe & Szegedy 2015, arXiv:1502.03167.
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
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        channel_axis: int = 1,
        reduction: Reduction = "exact",
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, bias=bias, dtype=dtype, channel_axis=channel_axis
        )
        self.reduction = check_reduction(reduction)
        self.comm = world() if comm is None else as_communicator(comm)
        self._identity = self.comm._protocol.register_layer(type(self).__name__)
