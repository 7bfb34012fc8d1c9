"""Maximum pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from syncbn.nn._checks import check_grad
from syncbn.nn._images import empty_images, is_channels_last
from syncbn.nn._pool import Pool2d
from syncbn.nn._select import select
from syncbn.typing import BackwardOf, FloatArray, ScalarT


class MaxPool2d(Pool2d):
    """Maximum pooling as in PyTorch: y[n,c,p] is the maximum of x[n,c] over window p.

    Parameters
    ----------
    kernel_size : int or pair of int
    stride : int or pair of int, optional
        None means ``kernel_size``, so that windows are adjacent.
    padding : int or pair of int
        Padding, which is never the maximum; at most half of ``kernel_size``, so that every window has a pixel.

    See Also
    --------
    syncbn.nn.AvgPool2d : Means instead of maxima.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> y, backward = nn.MaxPool2d(2)(x)
    >>> y[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """

    def __init__(  # so that Python's error of a missing argument names this class
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
    ) -> None:
        super().__init__(kernel_size, stride, padding)

    @np.errstate(all="ignore")  # infinities and NaN of the result say it
    def forward(self, x: NDArray[ScalarT]) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y of shape (N, C, OH, OW), in x's dtype and memory order, and its backward.

        The gradient of each output is added to the first maximum of its window; NaN is larger than all numbers.

        Raises
        ------
        ValueError
            ``x`` isn't of shape (N, C, H, W), or is smaller than the window.
        TypeError
            ``x`` isn't float32 or float64.
        """
        y_shape, taps = self._windows(x)
        x_shape, dtype, channels_last = x.shape, x.dtype, is_channels_last(x)
        y = empty_images(y_shape, dtype, channels_last)
        y[...] = -np.inf
        argmax = np.zeros_like(y, dtype=np.min_scalar_type(len(taps)))
        for tap, (to, at) in enumerate(taps):
            values, maximum = x[at], y[to]
            larger = (values > maximum) | np.isnan(values)
            np.maximum(maximum, values, out=maximum)
            # Taps are in ascending order, so a maximum selects the last one; several times faster than a masked copy.
            np.maximum(argmax[to], np.multiply(larger, tap, dtype=argmax.dtype), out=argmax[to])

        @np.errstate(all="ignore")
        def backward(dy: FloatArray) -> NDArray[Any]:
            """Return dL/dx, given dL/dy."""
            dy = check_grad("MaxPool2d", dy, y_shape, dtype)
            dx = empty_images(x_shape, dtype, channels_last)
            dx[...] = 0
            for tap, (to, at) in enumerate(taps):
                dx[at] += select(dy[to], argmax[to] == tap)
            return dx

        return y, backward

    if TYPE_CHECKING:
        __call__ = forward
