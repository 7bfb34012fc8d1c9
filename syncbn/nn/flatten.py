"""Conversion of images to vectors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from syncbn.layers.module import Module
from syncbn.nn._checks import check_dtype, check_grad
from syncbn.typing import BackwardOf, FloatArray, ScalarT


class Flatten(Module):
    """Layer that flattens all axes but the first, in C order for every memory order of x.

    See Also
    --------
    syncbn.nn.Dense : Layer for vectors.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> y, backward = nn.Flatten()(np.ones((2, 3, 4, 4)))
    >>> y.shape, backward(y).shape
    ((2, 48), (2, 3, 4, 4))
    """

    def __init__(self) -> None:  # so that Python's error of an unexpected argument names this class
        super().__init__()

    def forward(self, x: NDArray[ScalarT]) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y, a view of x if possible, and its backward.

        Raises
        ------
        ValueError
            ``x`` has no axes.
        TypeError
            ``x`` isn't float32 or float64.
        """
        check_dtype("Flatten", x)
        if x.ndim == 0:
            raise ValueError("Flatten expects x of shape (N, ...), got ()")
        x_shape, dtype = x.shape, x.dtype
        y_shape = len(x), math.prod(x.shape[1:])  # not -1, which is ambiguous for an empty batch

        def backward(dy: FloatArray) -> NDArray[ScalarT]:
            """Return dL/dx, given dL/dy."""
            return check_grad("Flatten", dy, y_shape, dtype).reshape(x_shape)

        return x.reshape(y_shape), backward

    if TYPE_CHECKING:
        __call__ = forward
