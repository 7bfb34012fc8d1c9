"""Maximum over windows."""

from __future__ import annotations

import numpy as np

from syncbn.nn._checks import check_grad
from syncbn.nn._maps import empty_maps, is_channels_last
from syncbn.nn._pool import Pool2d
from syncbn.nn._select import select
from syncbn.typing import Backward, FloatArray


class MaxPool2d(Pool2d):
    """y[n,c,p] = max of x[n,c] over window p, as in PyTorch.

    Parameters
    ----------
    kernel_size : int or pair of int
    stride : int or pair of int, optional
        None: the kernel's size, so that windows touch without overlap.
    padding : int or pair of int
        At most half the kernel, so that no window lies on padding alone; it never wins.
    """

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y of shape (N, C, OH, OW), in x's dtype and memory order, and its backward.

        The gradient goes to the first maximum of each window; NaN wins over numbers.

        Raises
        ------
        ValueError
            ``x`` isn't of shape (N, C, H, W), or is smaller than the window.
        TypeError
            ``x`` isn't float32 or float64.
        """
        y_shape, taps = self._windows(x)
        x_shape, dtype, channels_last = x.shape, x.dtype, is_channels_last(x)
        y = empty_maps(y_shape, dtype, channels_last)
        y[...] = -np.inf
        winner = np.zeros_like(y, dtype=np.min_scalar_type(len(taps)))
        for tap, (to, at) in enumerate(taps):
            seen, best = x[at], y[to]
            better = (seen > best) | np.isnan(seen)
            np.maximum(best, seen, out=best)
            # Taps rise, so the last better one is the largest; several times faster than a masked copy.
            np.maximum(winner[to], np.multiply(better, tap, dtype=winner.dtype), out=winner[to])

        def backward(dy: FloatArray) -> FloatArray:
            dy = check_grad("MaxPool2d", dy, y_shape, dtype)
            dx = empty_maps(x_shape, dtype, channels_last)
            dx[...] = 0
            for tap, (to, at) in enumerate(taps):
                dx[at] += select(dy[to], winner[to] == tap)
            return dx

        return y, backward
