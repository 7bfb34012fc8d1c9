"""From maps to vectors."""

from __future__ import annotations

import math

from syncbn.layers.module import Module
from syncbn.nn._checks import check_dtype, check_grad
from syncbn.typing import Backward, FloatArray


class Flatten(Module):
    """(N, …) becomes (N, product of the rest), in C order whatever the memory order."""

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y, a view of x where that is possible, and its backward.

        Raises
        ------
        ValueError
            ``x`` has no axis.
        TypeError
            ``x`` isn't float32 or float64.
        """
        check_dtype("Flatten", x)
        if x.ndim == 0:
            raise ValueError("Flatten expects x of shape (N, ...), got ()")
        x_shape, dtype = x.shape, x.dtype
        y_shape = len(x), math.prod(x.shape[1:])  # not -1, which an empty batch leaves open

        def backward(dy: FloatArray) -> FloatArray:
            return check_grad("Flatten", dy, y_shape, dtype).reshape(x_shape)

        return x.reshape(y_shape), backward
