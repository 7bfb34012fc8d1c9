"""Instance normalization, whose statistics are those of each channel of each sample."""

from __future__ import annotations

from numpy.typing import ArrayLike, NDArray

from syncbn._core import plans
from syncbn.functional._kinds import in_kind
from syncbn.typing import AffineBackwardOf, FloatArray, ScalarT


@in_kind
def instance_norm(
    x: NDArray[ScalarT],
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
    mask: ArrayLike | None = None,
) -> tuple[NDArray[ScalarT], AffineBackwardOf[ScalarT]]:
    r"""Normalize each channel of each sample over its trailing axes.

    Not collective: the statistics are those of one sample.

    .. math:: y = γ\,\frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}} + β

    Each channel of each sample has a mean μ and a biased variance var. γ and β have one value for each channel.

    Parameters
    ----------
    x : ndarray, 2 or more axes
        float16, float32 or float64 values in any memory order. The sample axis is the first axis that is not
        the channel axis. Do not change x before the backward is called.
    weight, bias : ndarray of shape (C,), optional
        γ and β. Defaults: 1 and 0.
    eps : float
        Constant added to the variance, finite and at least 0.
    channel_axis : int
        Channel axis of x; -1 is channels-last.
    mask : array of bool, optional
        Selection of elements, broadcastable to x without its channel axis. The statistics are those of the
        selected elements of the sample; all elements are normalized with them. The mask is copied. With a mask, the
        computation is in NumPy and float64, which takes several times as long.

    Returns
    -------
    y : ndarray
        Result, with x's shape, dtype and memory order.
    backward : callable
        ``dx, dweight, dbias = backward(dy)``. dweight and dbias have the dtypes of weight and bias, and are
        None if these are None.

    Raises
    ------
    ValueError, TypeError
        Invalid input, or a single value, or with a mask a single selected value, per channel and sample.

    See Also
    --------
    syncbn.InstanceNorm : The layer.

    References
    ----------
    Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import functional as F
    >>> x = np.random.default_rng(0).normal(5, 2, (2, 4, 3, 3)).astype(np.float32)
    >>> y, backward = F.instance_norm(x)
    >>> bool(np.allclose(y.mean(axis=(2, 3)), 0, atol=1e-5))
    True
    """
    y, *_, backward = plans.instance_norm(x, weight, bias, eps, channel_axis, None, mask)
    return y, backward
