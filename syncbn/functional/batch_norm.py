"""Batch normalization with the statistics of this batch, of one process or of many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from syncbn._dispatch import channels as kernels
from syncbn._dispatch.checks import check_eps, check_floating, check_parameter, check_same_shape, to_float64
from syncbn._dispatch.gradients import gradient_rows, gradient_terms
from syncbn._dispatch.layout import ChannelLayout, MaskArray, check_channels, mask_view
from syncbn._dispatch.moments import moment_terms
from syncbn.comm import Call, CommLike, Communicator, as_communicator
from syncbn.functional._reductions import NO_MAXIMA, Exact, Float64, Reduction, find_reduction
from syncbn.moments import Moments
from syncbn.typing import FloatArray

AffineGradients = tuple[FloatArray, FloatArray | None, FloatArray | None]
InferenceBackward = Callable[[FloatArray], AffineGradients]


class BatchNormBackward(Protocol):
    """``dx, dweight, dbias = backward(dy)``; with ``total=True``, dweight and dbias are those of all ranks."""

    def __call__(self, dy: FloatArray, *, total: bool = False) -> AffineGradients:
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

    Returns
    -------
    y : ndarray
        x's shape, dtype and memory order.
    moments : Moments
        ``count``, ``mean`` and ``var`` (float64, shape (C,)) over all ranks.
    backward : callable
        ``dx, dweight, dbias = backward(dy)``: dx is the gradient of the summed loss of all ranks;
        dweight and dbias are this rank's share, in the parameters' dtype (None without them).
        ``backward(dy, total=True)`` gives the sums of all ranks' shares instead, at no cost and with
        exact sums in the same bits on any number of ranks; then don't add them up again.

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
    return normalize_batch(
        x,
        weight,
        bias,
        eps=eps,
        channel_axis=channel_axis,
        mask=mask,
        communicator=as_communicator(comm),
        reduction=reduction,
        name=name,
    )


def normalize_batch(
    x: FloatArray,
    weight: FloatArray | None,
    bias: FloatArray | None,
    *,
    eps: float,
    channel_axis: int,
    mask: ArrayLike | None,
    communicator: Communicator,
    reduction: str,
    name: str,
    channels: int | None = None,
) -> tuple[FloatArray, Moments, BatchNormBackward]:
    """Do what `batch_norm` says; ``channels``, where given, is what a layer expects of x. Collective."""
    try:
        batch = _Batch.checked(x, weight, bias, eps, channel_axis, mask, reduction, channels)
    except Exception as error:  # whatever it is, the others wait to hear of it
        communicator.agree(Call("forward", name, 0, "", "", 0.0, ""), NO_MAXIMA, error)
        raise
    call = batch.call(name)
    terms = moment_terms(batch.x, batch.layout, batch.mask_ns)
    moments, invstd, number = batch.sums.moments(terms, batch.layout.channels, batch.eps, communicator, call)
    if moments.count == 1:
        raise ValueError(
            f"batch normalization needs more than 1 value per channel over all ranks, got 1 "
            f"(x of shape {batch.layout.shape} on this rank)"
        )
    if moments.count == 0 and x.size:
        raise ValueError(f"mask selects no value of x on any rank (x of shape {batch.layout.shape} on this rank)")
    mean_nc = moments.mean[None, :]
    with np.errstate(all="ignore"):  # infinities and NaN of the result say it
        scale = batch.weight64 * invstd
    y = kernels.normalize(batch.x, batch.layout, mean_nc, scale[None, :], batch.bias64)

    def backward(dy: FloatArray, *, total: bool = False) -> AffineGradients:
        backward_call = batch.call(name, forward_number=number)
        try:
            dy_view = batch.layout.view(check_same_shape(dy, batch.layout.shape))
        except Exception as error:
            communicator.agree(backward_call, NO_MAXIMA, error)
            raise
        terms = gradient_terms(batch.x, dy_view, batch.layout, moments.mean)
        totals = batch.sums.totals(terms, batch.layout.channels, communicator, backward_call)
        with np.errstate(all="ignore"):
            dy_mean, product_mean = totals.everywhere / max(moments.count, 1)
            shift = scale * dy_mean
            slope = scale * (invstd * (invstd * product_mean))  # invstd² may be out of float64's range
            dy_sum, product_sum = totals.everywhere if total else totals.here
            dweight = None if batch.weight is None else (invstd * product_sum).astype(batch.weight.dtype)
            dbias = None if batch.bias is None else dy_sum.astype(batch.bias.dtype)
        dx = kernels.input_gradient(
            batch.x, dy_view, batch.layout, mean_nc, scale[None, :], shift[None, :], slope[None, :], batch.mask_ns
        )
        return dx, dweight, dbias

    return y, moments, backward


@dataclass(frozen=True)
class _Batch:
    """The checked input of one call."""

    x: FloatArray
    layout: ChannelLayout
    mask_ns: MaskArray
    weight: FloatArray | None
    bias: FloatArray | None
    eps: float
    reduction: str
    sums: Exact | Float64

    @classmethod
    def checked(
        cls,
        x: Any,
        weight: Any,
        bias: Any,
        eps: float,
        channel_axis: int,
        mask: Any,
        reduction: str,
        channels: int | None = None,
    ) -> _Batch:
        x = check_floating(x, "x", min_ndim=2)
        layout = ChannelLayout.of(x, channel_axis)
        if channels is not None:
            check_channels(layout, channels)
        shape = (layout.channels,)
        return cls(
            layout.view(x),
            layout,
            mask_view(mask, layout),
            check_parameter(weight, "weight", shape),
            check_parameter(bias, "bias", shape),
            check_eps(eps),
            reduction,
            find_reduction(reduction),
        )

    @property
    def weight64(self) -> Any:
        return to_float64(self.weight, (self.layout.channels,), 1.0)

    @property
    def bias64(self) -> Any:
        return to_float64(self.bias, (self.layout.channels,), 0.0)

    def call(self, name: str, forward_number: int | None = None) -> Call:
        affine = "+".join(n for n, p in (("weight", self.weight), ("bias", self.bias)) if p is not None)
        return Call(
            "forward" if forward_number is None else "backward",
            name,
            self.layout.channels,
            self.layout.dtype_name,
            self.reduction,
            self.eps,
            affine or "none",
            forward_number or 0,
        )


@np.errstate(all="ignore")  # infinities and NaN of the result say it
def batch_norm_inference(
    x: FloatArray,
    running_mean: FloatArray,
    running_var: FloatArray,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
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

    Returns
    -------
    y : ndarray
        x's shape, dtype and memory order.
    backward : callable
        ``dx, dweight, dbias = backward(dy)``.

    Raises
    ------
    ValueError, TypeError
        Bad input.

    References
    ----------
    Ioffe & Szegedy 2015, arXiv:1502.03167, Algorithm 2.
    """
    batch = _Batch.checked(x, weight, bias, eps, channel_axis, None, "exact")
    shape = (batch.layout.channels,)
    for array, what in ((running_mean, "running_mean"), (running_var, "running_var")):
        if check_parameter(array, what, shape) is None:
            raise TypeError(f"{what} must be an array of shape {shape}, got None")
    mean_nc = to_float64(running_mean, shape, 0.0)[None, :]
    invstd = 1 / np.sqrt(to_float64(running_var, shape, 1.0) + batch.eps)
    scale = batch.weight64 * invstd
    y = kernels.normalize(batch.x, batch.layout, mean_nc, scale[None, :], batch.bias64)

    @np.errstate(all="ignore")
    def backward(dy: FloatArray) -> AffineGradients:
        dy_view = batch.layout.view(check_same_shape(dy, batch.layout.shape))
        zero = np.zeros((1, batch.layout.channels))
        dx = kernels.input_gradient(batch.x, dy_view, batch.layout, mean_nc, scale[None, :], zero, zero)
        dy_rows, product_rows = gradient_rows(batch.x, dy_view, batch.layout, mean_nc)
        dweight = None if weight is None else (invstd * product_rows.sum(axis=0)).astype(weight.dtype)
        dbias = None if bias is None else dy_rows.sum(axis=0).astype(bias.dtype)
        return dx, dweight, dbias

    return y, backward
