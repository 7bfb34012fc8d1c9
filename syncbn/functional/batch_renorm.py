"""Batch renormalization, which corrects the statistics of a batch towards the running statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from syncbn._core import plans
from syncbn._core.checks import Reduction, check_eps, check_input, check_name, check_same_shape, check_variances, shown
from syncbn._core.conversion import parameter64, parameter_gradient
from syncbn.comm import CollectiveSignature, CommLike, Communicator, as_communicator
from syncbn.comm.collective import collective
from syncbn.functional._kinds import in_kind
from syncbn.moments import Moments
from syncbn.typing import Float64Array, FloatArray, ScalarT

_BACKWARD = CollectiveSignature("backward of batch_renorm")


class BatchRenormBackward:
    """The backward of `batch_renorm`: ``dx, dweight, dbias = backward(dy)``. Collective if the forward was.

    Parameters
    ----------
    comm : Communicator
    shape : tuple of int
        Shape of x.
    axis : int
        Channel axis of x.
    through, direct : callable
        Backward of x̂ through the statistics, and of γ·(x̂·r + d) + β for constant statistics.
    scale, r, d : ndarray of float64, shape (C,)
        γ·r, r and d.
    parameters : pair of ndarray or None
        weight and bias as they were passed.

    Attributes
    ----------
    check : callable or None
        Set by layers: it raises if parameters have changed.
    """

    def __init__(
        self,
        comm: Communicator,
        shape: tuple[int, ...],
        axis: int,
        through: Any,
        direct: Any,
        scale: Float64Array,
        r: Float64Array,
        d: Float64Array,
        parameters: tuple[FloatArray | None, FloatArray | None],
    ) -> None:
        self.check: Callable[[], None] | None = None
        self._comm, self._shape, self._parameters = comm, shape, parameters
        self._through, self._direct, self._r, self._d = through, direct, r, d
        self._scale = scale.reshape([-1 if i == axis else 1 for i in range(len(shape))])

    @np.errstate(all="ignore")  # infinities and NaN are visible in the result
    def __call__(self, dy: FloatArray) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
        """Return dx, dweight and dbias."""
        with self._comm._protocol.collective_errors(_BACKWARD):
            if self.check is not None:
                self.check()
            dy = check_same_shape(dy, self._shape)
            _, products, sums = self._direct(dy)  # Σ dy·x̂ and Σ dy
        dx = self._through(dy * self._scale)[0]
        weight, bias = self._parameters
        return (
            dx,
            None if weight is None else parameter_gradient(self._r * products + self._d * sums, weight),
            None if bias is None else parameter_gradient(sums, bias),
        )

    def __deepcopy__(self, memo: object) -> BatchRenormBackward:
        """Return the backward itself, as `copy.deepcopy` does for functions."""
        return self


@collective(lambda passed: as_communicator(passed.get("comm")))
@in_kind
def batch_renorm(
    x: NDArray[ScalarT],
    running_mean: FloatArray,
    running_var: FloatArray,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    r_max: float = 3.0,
    d_max: float = 5.0,
    eps: float = 1e-5,
    channel_axis: int = 1,
    mask: ArrayLike | None = None,
    comm: CommLike = None,
    reduction: Reduction = "exact",
    name: str = "",
) -> tuple[NDArray[ScalarT], Moments, BatchRenormBackward]:
    r"""Normalize each channel with the statistics of the batch, corrected towards the running statistics.

    Collective. The returned backward is collective too.

    .. math:: y = γ\,(\hat{x} r + d) + β, \qquad \hat{x} = \frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}}

    .. math::

        r &= \mathrm{clip}\left(\sqrt{\mathrm{var} + \mathrm{eps}} \,/ \sqrt{\text{running_var} + \mathrm{eps}},
            \; 1/r_\mathrm{max}, \; r_\mathrm{max}\right) \\
        d &= \mathrm{clip}\left((μ - \text{running_mean}) \,/ \sqrt{\text{running_var} + \mathrm{eps}},
            \; -d_\mathrm{max}, \; d_\mathrm{max}\right)

    μ and var are the mean and the biased variance of a channel over the batches of all ranks of ``comm``. In the
    backward, r and d are constants. Where neither is clipped, y is the result of `batch_norm_inference`, so training
    and evaluation agree. With r_max = 1 and d_max = 0, this is `batch_norm`.

    Parameters
    ----------
    x : ndarray, 2 or more axes
        Values of this rank, as described in `batch_norm`. Do not change x before the backward is called.
    running_mean, running_var : ndarray of shape (C,)
        Running statistics before this batch, equal on all ranks. They are not updated.
    weight, bias : ndarray of shape (C,), optional
        γ and β. Defaults: 1 and 0.
    r_max : float
        Limit of the correction of the scale, at least 1.
    d_max : float
        Limit of the correction of the mean, at least 0.
    eps : float
        Constant added to the variances, finite and at least 0.
    channel_axis : int
        Channel axis of x; -1 is channels-last.
    mask : array of bool, optional
        Selection of elements, as described in `batch_norm`.
    comm : None, syncbn communicator or mpi4py.MPI.Intracomm
        Ranks that share the statistics. None means this process only.
    reduction : {"exact", "float64"}
        How sums are computed, as described in `batch_norm`.
    name : str
        Name of this call, compared between ranks.

    Returns
    -------
    y : ndarray
        Result, with x's shape, dtype and memory order.
    moments : Moments
        ``count``, ``mean`` and ``var`` of the batch, over all ranks.
    backward : callable
        ``dx, dweight, dbias = backward(dy)``, as described in `batch_norm`: dweight and dbias are those of this rank.

    Raises
    ------
    ValueError, TypeError
        Invalid input of this rank, or a single value per channel over all ranks (on every rank).
    SyncMismatchError
        Another rank had invalid input, or made a different call.

    See Also
    --------
    syncbn.BatchRenorm : The layer.

    References
    ----------
    Ioffe 2017, Batch renormalization, arXiv:1702.03275, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import functional as F
    >>> x = np.random.default_rng(0).normal(5, 2, (8, 3))
    >>> y, moments, backward = F.batch_renorm(x, np.full(3, 5.0), np.full(3, 4.0), r_max=1.5, d_max=0.5)
    >>> moments.count
    8
    >>> dx, dweight, dbias = backward(y)
    >>> dx.shape
    (8, 3)
    """
    comm = as_communicator(comm)
    x, axis = check_input(x, channel_axis)
    eps, r_max, d_max = check_eps(eps), check_limit("r_max", r_max, 1), check_limit("d_max", d_max, 0)
    name = check_name(name) or "batch_renorm"
    channels = (x.shape[axis],)
    mean, var = parameter64(running_mean, "running_mean", channels), parameter64(running_var, "running_var", channels)
    check_variances(var)
    gamma = np.ones(channels) if weight is None else parameter64(weight, "weight", channels)
    beta = np.zeros(channels) if bias is None else parameter64(bias, "bias", channels)
    limits = f"{name} (r_max={r_max}, d_max={d_max})"
    _, moments, through = plans.batch_norm(
        x, None, None, eps, axis, mask, reduction, None, False, None, None, comm._distributed, limits
    )
    with np.errstate(all="ignore"):  # infinities and NaN are visible in the result
        batch_var = np.where(moments.var + eps == 0, 1.0, moments.var)  # x − μ = 0: any scale will do
        r = np.clip(np.sqrt(batch_var + eps) / np.sqrt(var + eps), 1 / r_max, r_max)
        distance = moments.mean - mean
        d = np.clip(np.where(distance == 0, 0.0, distance / np.sqrt(var + eps)), -d_max, d_max)
        scale, shift = gamma * r, gamma * d + beta
    y, direct = plans.batch_norm_inference(x, moments.mean, batch_var, scale, shift, eps, axis, None, False, None, None)
    return y, moments, BatchRenormBackward(comm, x.shape, axis, through, direct, scale, r, d, (weight, bias))


def check_limit(name: str, value: Any, minimum: float) -> float:
    """Return a limit as a float, or raise unless it is at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    if not value >= minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value!r}")
    return float(value)
