"""Filter response normalization with a thresholded linear unit."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from syncbn._core import debug, plans
from syncbn._core.checks import check_eps, check_input, check_same_shape
from syncbn._core.conversion import Edge, memory_order, memory_orders, parameter64, parameter_gradient
from syncbn.functional._kinds import in_kind
from syncbn.typing import FloatArray, ScalarT, ScalarT_co


class FilterResponseBackward(Protocol[ScalarT_co]):
    """The backward of `filter_response_norm`: ``dx, dweight, dbias, dtau = backward(dy)``."""

    def __call__(
        self, dy: FloatArray, /
    ) -> tuple[NDArray[ScalarT_co], FloatArray | None, FloatArray | None, FloatArray | None]:
        """Return the gradients of x, weight, bias and tau, given that of y; None for a missing parameter."""


@in_kind
@np.errstate(all="ignore")  # infinities and NaN are visible in the result
def filter_response_norm(
    x: NDArray[ScalarT],
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    tau: FloatArray | None = None,
    *,
    eps: float = 1e-6,
    channel_axis: int = 1,
) -> tuple[NDArray[ScalarT], FilterResponseBackward[ScalarT]]:
    r"""Divide each channel of each sample by the root of its mean square over the trailing axes.

    Not collective: the statistics are those of one sample.

    .. math:: y = \max\left(γ\,\frac{x}{\sqrt{ν^2 + \mathrm{eps}}} + β,\; τ\right)

    ν² is the mean of x² over the S values of one channel of one sample. Without τ, y is the first argument of the
    maximum. With one value (S = 1), x/√(x² + eps) is little more than the sign of x, so take a larger eps.

    Parameters
    ----------
    x : ndarray, 2 or more axes
        float16, float32 or float64 values in any memory order. The sample axis is the first axis that is not
        the channel axis. Do not change x before the backward is called.
    weight, bias : ndarray of shape (C,), optional
        γ and β. Defaults: 1 and 0.
    tau : ndarray of shape (C,), optional
        Threshold τ of the thresholded linear unit (TLU), which replaces ReLU.
    eps : float
        Constant added to the mean square, finite and at least 0.
    channel_axis : int
        Channel axis of x; -1 is channels-last.

    Returns
    -------
    y : ndarray
        Result, with x's shape, dtype and memory order.
    backward : callable
        ``dx, dweight, dbias, dtau = backward(dy)``. The gradients of parameters have the dtypes of these, and are None
        for those that are None. Where both arguments of the maximum are equal, the gradient is that of τ.

    Raises
    ------
    ValueError, TypeError
        Invalid input.

    See Also
    --------
    syncbn.FilterResponseNorm : The layer.

    References
    ----------
    Singh & Krishnan 2020, Filter response normalization layer, arXiv:1911.09737.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import functional as F
    >>> x = np.random.default_rng(0).normal(5, 2, (2, 4, 3, 3)).astype(np.float32)
    >>> y, backward = F.filter_response_norm(x, tau=np.zeros(4))
    >>> bool(np.allclose((y**2).mean(axis=(2, 3)), 1, atol=1e-5))  # the root mean square of positive values is 1
    True
    """
    x, axis = check_input(x, channel_axis)
    eps = check_eps(eps)
    checksums = debug.Checksums(x=x) if debug.ENABLED else None
    order = memory_orders(x.ndim, axis)[0]
    edge = Edge(x.dtype.newbyteorder("="), memory_order(x, axis) or tuple(range(x.ndim)))
    samples, channels, *trailing = first = [x.shape[i] for i in order]
    size = math.prod(trailing)
    shape = (samples, channels, size)
    gamma, beta, threshold = (
        None if parameter is None else parameter64(parameter, name, (channels,))[:, None]
        for parameter, name in ((weight, "weight"), (bias, "bias"), (tau, "tau"))
    )

    def as_ncs(array: FloatArray) -> FloatArray:
        return np.reshape(array.transpose(order), shape)

    def restored(result_ncs: FloatArray) -> NDArray[Any]:
        return edge.restore(result_ncs.reshape(first).transpose(np.argsort(order)))

    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    rows, gradients = plans.feature_norm(as_ncs(wide).reshape(-1, max(size, 1)), max(size, 1), None, None, eps, False)
    normalized = rows.reshape(shape)
    linear: Any = normalized if gamma is None else gamma * normalized
    linear = linear if beta is None else linear + beta
    below: Any = None if threshold is None else linear <= threshold
    y = restored(linear if threshold is None else np.maximum(linear, threshold))

    @np.errstate(all="ignore")
    def backward(
        dy: FloatArray,
    ) -> tuple[NDArray[Any], FloatArray | None, FloatArray | None, FloatArray | None]:
        """Return dx, dweight, dbias and dtau, given dy."""
        if checksums is not None:
            checksums.check()
        dy_ncs: Any = as_ncs(check_same_shape(dy, x.shape)).astype(np.float64)
        g = dy_ncs if below is None else np.where(below, 0.0, dy_ncs)
        dx = gradients((g if gamma is None else gamma * g).reshape(rows.shape))[0]
        return (
            restored(dx.reshape(shape)),
            None if weight is None else parameter_gradient((g * normalized).sum(axis=(0, 2)), weight),
            None if bias is None else parameter_gradient(g.sum(axis=(0, 2)), bias),
            None if tau is None else parameter_gradient(np.where(below, dy_ncs, 0.0).sum(axis=(0, 2)), tau),
        )

    return y, backward
