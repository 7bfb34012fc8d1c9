"""Global average pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from syncbn.layers.module import Module
from syncbn.nn._checks import check_grad, check_input
from syncbn.nn._images import empty_images, is_channels_last
from syncbn.typing import BackwardOf, FloatArray, ScalarT


class GlobalAvgPool2d(Module):
    """Global average pooling from (N, C, H, W) to (N, C): y[n,c] is the mean of all pixels of x[n,c].

    See Also
    --------
    syncbn.nn.AvgPool2d : Means of parts of the image.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> y, backward = nn.GlobalAvgPool2d()(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> y
    array([[1.5, 5.5]])
    """

    def __init__(self) -> None:  # so that Python's error of an unexpected argument names this class
        super().__init__()

    @np.errstate(all="ignore")  # infinities and NaN of the result say it
    def forward(self, x: NDArray[ScalarT]) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y, in x's dtype, and its backward.

        Raises
        ------
        ValueError
            ``x`` isn't of shape (N, C, H, W), or has no pixels.
        TypeError
            ``x`` isn't float32 or float64.
        """
        check_input("GlobalAvgPool2d", x, ("N", "C", "H", "W"))
        n, c, h, w = x_shape = x.shape
        if h * w == 0:
            raise ValueError(f"GlobalAvgPool2d expects at least one pixel, got x of shape {x_shape}")
        channels_last, dtype = is_channels_last(x), x.dtype

        @np.errstate(all="ignore")
        def backward(dy: FloatArray) -> NDArray[ScalarT]:
            """Return dL/dx, given dL/dy."""
            dx = empty_images(x_shape, dtype, channels_last)
            dx[...] = (check_grad("GlobalAvgPool2d", dy, (n, c), dtype) / (h * w))[:, :, None, None]
            return dx

        return np.mean(x, axis=(2, 3)), backward

    if TYPE_CHECKING:
        __call__ = forward
