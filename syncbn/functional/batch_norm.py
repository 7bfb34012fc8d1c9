"""Batch normalization with the statistics of this batch, of one process or of many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import ArrayLike

from syncbn._core import plans
from syncbn._core.checks import Reduction
from syncbn.comm import CommLike, as_communicator
from syncbn.moments import Moments
from syncbn.typing import FloatArray

InferenceBackward = Callable[[FloatArray], Any]


class BatchNormBackward(Protocol):
    """``dx, dweight, dbias = backward(dy)``, with a residual also its gradient.

    With ``total=True``, dweight and dbias are those of all ranks. ``out`` is memory for dx.
    """

    def __call__(self, dy: FloatArray, *, total: bool = False, out: FloatArray | None = None) -> Any:
        """Return the gradients. Collective."""


def batch_norm(
    x: FloatArray,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
    mask: ArrayLike | None = None,
    comm: CommLike = None,
    reduction: Reduction = "exact",
    name: str = "",
    residual: FloatArray | None = None,
    relu: bool = False,
    out: FloatArray | None = None,
) -> tuple[FloatArray, Moments, BatchNormBackward]:
    r"""Normalize each channel with its mean and variance over the batches of all ranks.

    Collective, and so is the returned backward.

    .. math:: y = \gamma\,(x-\mu)/\sqrt{\mathrm{var}+\epsilon} + \beta

    with μ and var (biased) over samples and trailing axes of all ranks of ``comm``.

    Parameters
    ----------
    x : ndarray, 2 or more axes
        float16, float32 or float64, any strides, byte order or alignment; never written. Ranks may
        have different numbers of samples, also none.
    weight, bias : ndarray of shape (C,), optional
        γ and β. Without them: 1 and 0.
    eps : float
        Added to the variance; finite and at least 0.
    channel_axis : int
        Axis of C; -1 is channels-last.
    mask : array of bool, optional
        Broadcastable to x without its channel axis. The statistics come from the selected elements
        only; the others are normalized with the same statistics.
    comm : None, syncbn communicator or mpi4py.MPI.Intracomm
        None is this process alone.
    reduction : {"exact", "float64"}
        "exact": the same bits for every number of ranks, split and order of the samples.
        "float64": plain floating-point sums.
    name : str
        Identity of this call, compared across ranks.
    residual : ndarray, optional
        Of x's shape and dtype: added to the normalized values, in the same sweep over memory.
    relu : bool
        Whether negative values (after a residual is added) become 0, in the same sweep. y must then stay
        as it is until the backward has been called.
    out : ndarray, optional
        Memory for y: x's shape and dtype, writable, not overlapping x or residual; at its fastest in x's
        memory order.

    Returns
    -------
    y : ndarray
        x's shape, dtype and memory order; ``out`` where that is given.
    moments : Moments
        ``count``, ``mean`` and ``var`` (float64, shape (C,)) over all ranks.
    backward : callable
        ``dx, dweight, dbias = backward(dy)``: dx is the gradient of the summed loss of all ranks;
        dweight and dbias are this rank's share, in the parameters' dtype (None without them).
        ``backward(dy, total=True)`` gives the sums of all ranks' shares instead, at no cost and with
        exact sums in the same bits on any number of ranks; then don't add them up again. With a residual
        it returns ``dx, dweight, dbias, dresidual`` (without relu, dresidual is dy itself).
        ``backward(dy, out=array)`` writes dx to that array.

    Raises
    ------
    ValueError, TypeError
        Bad input of this rank, or one value per channel over all ranks (on every rank).
    SyncMismatchError
        Another rank had bad input, or called something else.

    References
    ----------
    Ioffe & Szegedy 2015, arXiv:1502.03167; the gradient over all ranks as in Peng et al. 2018,
    arXiv:1711.07240.
    """
    protocol = as_communicator(comm)._distributed
    found: tuple[FloatArray, Moments, BatchNormBackward] = plans.batch_norm(
        x, weight, bias, eps, channel_axis, mask, reduction, residual, relu, out, None, protocol, name
    )
    return found


def batch_norm_inference(
    x: FloatArray,
    running_mean: FloatArray,
    running_var: FloatArray,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
    residual: FloatArray | None = None,
    relu: bool = False,
    out: FloatArray | None = None,
) -> tuple[FloatArray, InferenceBackward]:
    r"""Normalize each channel with given statistics: y = γ(x − running_mean)/√(running_var + eps) + β.

    Not collective, nor is the returned backward.

    Parameters
    ----------
    x : ndarray, 2 or more axes
        As in `batch_norm`.
    running_mean, running_var : ndarray of shape (C,)
        Floating; they are constants of the backward.
    weight, bias : ndarray of shape (C,), optional
    eps : float
    channel_axis : int
    residual : ndarray, optional
    relu : bool
    out : ndarray, optional
        As in `batch_norm`.

    Returns
    -------
    y : ndarray
        x's shape, dtype and memory order.
    backward : callable
        ``dx, dweight, dbias = backward(dy)``; with a residual also dresidual, and with ``out=`` as in `batch_norm`.

    Raises
    ------
    ValueError, TypeError
        Bad input.

    References
    ----------
    Ioffe & Szegedy 2015, arXiv:1502.03167, Algorithm 2.
    """
    found: tuple[FloatArray, InferenceBackward] = plans.batch_norm_inference(
        x, running_mean, running_var, weight, bias, eps, channel_axis, residual, relu, out, None
    )
    return found
