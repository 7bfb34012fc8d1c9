"""Batch normalization with the statistics of a batch, of one process or of all ranks, or with given statistics."""

from __future__ import annotations

from typing import Protocol, overload

from numpy.typing import ArrayLike, NDArray

from syncbn._core import plans
from syncbn._core.checks import Reduction
from syncbn.comm import CommLike, as_communicator
from syncbn.comm.collective import collective
from syncbn.functional._kinds import in_kind
from syncbn.moments import Moments
from syncbn.typing import FloatArray, ScalarT, ScalarT_co


class BatchNormBackward(Protocol[ScalarT_co]):
    """The backward of `batch_norm`: ``dx, dweight, dbias = backward(dy)``.

    With ``total=True``, dweight and dbias are the sums over all ranks. ``out`` is an array to which dx is written.
    """

    def __call__(
        self, dy: FloatArray, *, total: bool = False, out: FloatArray | None = None
    ) -> tuple[NDArray[ScalarT_co], FloatArray | None, FloatArray | None]:
        """Return the gradients. Collective."""


class BatchNormResidualBackward(Protocol[ScalarT_co]):
    """The backward of `batch_norm` with a residual: ``dx, dweight, dbias, dresidual = backward(dy)``."""

    def __call__(
        self, dy: FloatArray, *, total: bool = False, out: FloatArray | None = None
    ) -> tuple[NDArray[ScalarT_co], FloatArray | None, FloatArray | None, NDArray[ScalarT_co]]:
        """Return the gradients. Collective."""


class InferenceBackward(Protocol[ScalarT_co]):
    """The backward of `batch_norm_inference`: ``dx, dweight, dbias = backward(dy)``."""

    def __call__(
        self, dy: FloatArray, *, out: FloatArray | None = None
    ) -> tuple[NDArray[ScalarT_co], FloatArray | None, FloatArray | None]:
        """Return the gradients. Not collective."""


class InferenceResidualBackward(Protocol[ScalarT_co]):
    """The backward of `batch_norm_inference` with a residual: ``dx, dweight, dbias, dresidual = backward(dy)``."""

    def __call__(
        self, dy: FloatArray, *, out: FloatArray | None = None
    ) -> tuple[NDArray[ScalarT_co], FloatArray | None, FloatArray | None, NDArray[ScalarT_co]]:
        """Return the gradients. Not collective."""


@overload
def batch_norm(
    x: NDArray[ScalarT],
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
    mask: ArrayLike | None = None,
    comm: CommLike = None,
    reduction: Reduction = "exact",
    name: str = "",
    residual: None = None,
    relu: bool = False,
    out: NDArray[ScalarT] | None = None,
) -> tuple[NDArray[ScalarT], Moments, BatchNormBackward[ScalarT]]: ...
@overload
def batch_norm(
    x: NDArray[ScalarT],
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
    mask: ArrayLike | None = None,
    comm: CommLike = None,
    reduction: Reduction = "exact",
    name: str = "",
    residual: NDArray[ScalarT],
    relu: bool = False,
    out: NDArray[ScalarT] | None = None,
) -> tuple[NDArray[ScalarT], Moments, BatchNormResidualBackward[ScalarT]]: ...
@collective(lambda passed: as_communicator(passed.get("comm")))
@in_kind
def batch_norm(
    x: NDArray[ScalarT],
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
    mask: ArrayLike | None = None,
    comm: CommLike = None,
    reduction: Reduction = "exact",
    name: str = "",
    residual: NDArray[ScalarT] | None = None,
    relu: bool = False,
    out: NDArray[ScalarT] | None = None,
) -> tuple[NDArray[ScalarT], Moments, BatchNormBackward[ScalarT] | BatchNormResidualBackward[ScalarT]]:
    r"""Normalize each channel with its mean and variance over the batches of all ranks.

    Collective. The returned backward is collective too.

    .. math:: y = γ\,\frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}} + β

    μ and var are the mean and the biased variance of a channel over all axes except the channel axis and over
    all ranks of ``comm``. Do not change x or residual before the backward is called.

    Parameters
    ----------
    x : ndarray, 2 or more axes
        Values of this rank: float16, float32 or float64, with any strides, byte order and alignment. It is
        never written. Ranks may have different numbers of samples, or none. The backward reads x: with
        ``SYNCBN_DEBUG=1`` it raises RuntimeError if x has changed.
    weight, bias : ndarray of shape (C,), optional
        γ and β. Defaults: 1 and 0.
    eps : float
        Constant added to the variance, finite and at least 0.
    channel_axis : int
        Channel axis of x; -1 is channels-last.
    mask : array of bool, optional
        Selection of elements, broadcastable to x without its channel axis. The statistics are those of the
        selected elements of all ranks; all elements are normalized with them. The mask is copied.
    comm : None, syncbn communicator or mpi4py.MPI.Intracomm
        Ranks that share the statistics. None means this process only.
    reduction : {"exact", "float64"}
        How sums over ranks and samples are computed. "exact" gives equal bits for every number of ranks, split and
        order of the samples; "float64" sums in floating point.
    name : str
        Name of this call, compared between ranks. It distinguishes calls with equal shapes.
    residual : ndarray, optional
        Array of x's shape and dtype that is added to the normalized values. Like x, it must not change.
    relu : bool
        Whether negative values of the result become 0. If so, do not change y before the backward is called.
    out : ndarray, optional
        Output array for y: writable, with x's shape and dtype, not overlapping x or residual. It is written
        directly if it has x's memory order; otherwise y is copied to it.

    Returns
    -------
    y : ndarray
        Result, with x's shape and dtype. It is ``out`` if that is given; otherwise it has x's memory order, if
        that is C order or channels-last, and C order for any other x.
    moments : Moments
        ``count``, ``mean`` and ``var`` (float64, shape (C,)) over all ranks.
    backward : callable
        ``dx, dweight, dbias = backward(dy)``. dx is the gradient of the sum of the losses of all ranks;
        dweight and dbias are the local sums of this rank, in the dtypes of weight and bias (None if these are
        None). ``backward(dy, total=True)`` returns the sums over all ranks instead, without another message;
        do not sum them over ranks again. With ``reduction="exact"`` they have the same bits on any
        number of ranks. With a residual the result is ``dx, dweight, dbias, dresidual``; without relu,
        dresidual is dy itself. ``backward(dy, out=array)`` writes dx to that array.

    Raises
    ------
    ValueError, TypeError
        Invalid input of this rank, or a single value per channel over all ranks (on every rank).
    SyncMismatchError
        Another rank had invalid input, or made a different call.
    SyncLostRankError, SyncTimeoutError
        Another rank did not enter the call.

    See Also
    --------
    syncbn.SyncBatchNorm : The layer.
    syncbn.functional.batch_norm_inference : With given statistics.

    References
    ----------
    Ioffe & Szegedy 2015, arXiv:1502.03167; gradient over all ranks: Peng et al. 2018, arXiv:1711.07240.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import functional as F
    >>> x = np.random.default_rng(0).normal(5, 2, (8, 3)).astype(np.float32)
    >>> y, moments, backward = F.batch_norm(x)
    >>> moments.count, moments.mean.shape
    (8, (3,))
    >>> bool(np.allclose(y.mean(axis=0), 0, atol=1e-6))
    True
    >>> dx, dweight, dbias = backward(np.ones_like(y))
    >>> float(abs(dx).max())  # a constant gradient has no effect on normalized values
    0.0
    >>> # Statistics of all ranks, with a mask over samples:
    >>> from syncbn import MPIComm
    >>> y, moments, backward = F.batch_norm(x, mask=np.arange(8) < 5, comm=MPIComm())
    >>> moments.count  # on one rank
    5
    """
    protocol = as_communicator(comm)._distributed
    found: tuple[NDArray[ScalarT], Moments, BatchNormBackward[ScalarT]] = plans.batch_norm(
        x, weight, bias, eps, channel_axis, mask, reduction, residual, relu, out, None, protocol, name
    )
    return found


@overload
def batch_norm_inference(
    x: NDArray[ScalarT],
    running_mean: FloatArray,
    running_var: FloatArray,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
    residual: None = None,
    relu: bool = False,
    out: NDArray[ScalarT] | None = None,
) -> tuple[NDArray[ScalarT], InferenceBackward[ScalarT]]: ...
@overload
def batch_norm_inference(
    x: NDArray[ScalarT],
    running_mean: FloatArray,
    running_var: FloatArray,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
    residual: NDArray[ScalarT],
    relu: bool = False,
    out: NDArray[ScalarT] | None = None,
) -> tuple[NDArray[ScalarT], InferenceResidualBackward[ScalarT]]: ...
@in_kind
def batch_norm_inference(
    x: NDArray[ScalarT],
    running_mean: FloatArray,
    running_var: FloatArray,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
    residual: NDArray[ScalarT] | None = None,
    relu: bool = False,
    out: NDArray[ScalarT] | None = None,
) -> tuple[NDArray[ScalarT], InferenceBackward[ScalarT] | InferenceResidualBackward[ScalarT]]:
    r"""Normalize each channel with given statistics.

    Not collective. The returned backward is not collective either.

    .. math:: y = γ\,\frac{x - \text{running_mean}}{\sqrt{\text{running_var} + \mathrm{eps}}} + β

    Parameters
    ----------
    x : ndarray, 2 or more axes
        Input, as described in `batch_norm`. Do not change x before the backward is called.
    running_mean, running_var : ndarray of shape (C,)
        Mean and variance, of any floating dtype. They are constants in the backward. An infinite variance gives
        NaN.
    weight, bias : ndarray of shape (C,), optional
        γ and β. Defaults: 1 and 0.
    eps : float
        Constant added to the variance, finite and at least 0.
    channel_axis : int
        Channel axis of x; -1 is channels-last.
    residual : ndarray, optional
        Array of x's shape and dtype that is added to the normalized values. Like x, it must not change.
    relu : bool
        Whether negative values of the result become 0. If so, do not change y before the backward is called.
    out : ndarray, optional
        Output array for y, as described in `batch_norm`.

    Returns
    -------
    y : ndarray
        Result, with x's shape, dtype and memory order; ``out`` if that is given.
    backward : callable
        ``dx, dweight, dbias = backward(dy)``. With a residual, dresidual follows. ``backward(dy, out=array)``
        writes dx to that array.

    Raises
    ------
    ValueError, TypeError
        Invalid input.

    See Also
    --------
    syncbn.functional.batch_norm : With the statistics of the batch.
    syncbn.FrozenBatchNorm : The layer.

    References
    ----------
    Ioffe & Szegedy 2015, arXiv:1502.03167, Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import functional as F
    >>> x = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> y, backward = F.batch_norm_inference(x, running_mean=[1.0, 2.0], running_var=[4.0, 1.0], eps=0)
    >>> y
    array([[0., 0.],
           [1., 2.]])
    >>> dx, _, _ = backward(np.ones_like(x))
    >>> dx
    array([[0.5, 1. ],
           [0.5, 1. ]])
    """
    found: tuple[NDArray[ScalarT], InferenceBackward[ScalarT]] = plans.batch_norm_inference(
        x, running_mean, running_var, weight, bias, eps, channel_axis, residual, relu, out, None
    )
    return found
