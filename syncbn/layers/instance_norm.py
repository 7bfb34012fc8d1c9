"""The instance normalization layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from syncbn._core import plans
from syncbn.layers._running import RunningNormalizer
from syncbn.typing import BackwardOf, ScalarT


class InstanceNorm(RunningNormalizer):
    r"""Instance normalization, with the statistics of each channel of each sample.

    Not collective.

    .. math:: y = γ\,\frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}} + β

    Each channel of each sample has a mean μ and a biased variance var. γ and β have one value for each channel.

    By default, training and evaluation mode give the same result. With ``track_running_stats=True``, training updates
    running statistics with the averages over samples of the means and the unbiased variances, and evaluation uses them
    instead of μ and var. x must have a sample axis: the first axis that is not the channel axis.

    Parameters
    ----------
    num_features : int
        Number of channels, C: the size of x's channel axis.
    eps : float
        Constant added to the variance, finite and at least 0.
    momentum : float or None
        Weight of the new value in the running statistics. None means the cumulative average.
    affine : bool
        Whether there are γ (``weight``) and β (``bias``), of shape (C,).
    track_running_stats : bool
        Whether there are running statistics.
    weight, bias : bool
        Whether there is γ, and whether there is β, if ``affine`` is True.
    dtype : dtype
        Dtype of parameters and running statistics. y has x's dtype.
    channel_axis : int
        Channel axis of x; -1 is channels-last.

    Raises
    ------
    ValueError, TypeError
        From the constructor or the call: invalid arguments, or a single value per channel and sample.

    See Also
    --------
    syncbn.functional.instance_norm : The function.

    References
    ----------
    Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import InstanceNorm
    >>> x = np.random.default_rng(0).normal(5, 2, (2, 4, 3, 3)).astype(np.float32)
    >>> y, backward = InstanceNorm(4)(x)
    >>> bool(np.allclose(y.mean(axis=(2, 3)), 0, atol=1e-5))
    True
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        weight: bool = True,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        channel_axis: int = 1,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, weight, bias, track_running_stats, dtype, channel_axis)

    def forward(
        self, x: NDArray[ScalarT], mask: ArrayLike | None = None
    ) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y and its backward. Do not change x before the backward is called.

        `syncbn.functional.instance_norm` describes ``mask``. A mask has no effect if the running statistics are used.
        """
        if self._uses_running_statistics:
            return self._normalize_with_running(x)
        y, mean, var, count, gradients = plans.instance_norm(
            x, *self._arrays(), self.eps, self.channel_axis, self.num_features, mask
        )
        if self.training and mean.size:
            with np.errstate(all="ignore"):  # infinities and NaN are visible in the statistics
                unbiased = (var * (count / np.maximum(count - 1, 1))).mean(axis=0)
            self._track(mean.mean(axis=0), unbiased)
        return y, self._backward(gradients)

    if TYPE_CHECKING:
        __call__ = forward
