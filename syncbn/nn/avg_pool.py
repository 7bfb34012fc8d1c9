"""Average pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from syncbn.nn._checks import check_grad
from syncbn.nn._images import empty_images, is_channels_last
from syncbn.nn._pool import Pool2d
from syncbn.typing import BackwardOf, FloatArray, ScalarT


class AvgPool2d(Pool2d):
    """Average pooling as in PyTorch: y[n,c,p] is the mean of x[n,c] over window p.

    Parameters
    ----------
    kernel_size : int or pair of int
    stride : int or pair of int, optional
        None means ``kernel_size``, so that windows are adjacent.
    padding : int or pair of int
        Zeros, which the mean includes (PyTorch's default); at most half of ``kernel_size``.

    See Also
    --------
    syncbn.nn.MaxPool2d : Maxima instead of means.
    syncbn.nn.GlobalAvgPool2d : The mean of the whole image.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> y, backward = nn.AvgPool2d(2)(x)
    >>> y[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
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

        Raises
        ------
        ValueError
            ``x`` isn't of shape (N, C, H, W), or is smaller than the window.
        TypeError
            ``x`` isn't float32 or float64.
        """
        y_shape, taps = self._windows(x)
        area = math.prod(self.kernel_size)
        x_shape, dtype, channels_last = x.shape, x.dtype, is_channels_last(x)
        y = empty_images(y_shape, dtype, channels_last)
        y[...] = 0
        for to, at in taps:
            y[to] += x[at]
        y /= area

        @np.errstate(all="ignore")
        def backward(dy: FloatArray) -> NDArray[ScalarT]:
            """Return dL/dx, given dL/dy."""
            share = check_grad("AvgPool2d", dy, y_shape, dtype) / area
            dx = empty_images(x_shape, dtype, channels_last)
            dx[...] = 0
            for to, at in taps:
                dx[at] += share[to]
            return dx

        return y, backward

    if TYPE_CHECKING:
        __call__ = forward
