"""The rectified linear unit."""

from __future__ import annotations

import numpy as np

from syncbn.layers.module import Module
from syncbn.nn._checks import check_dtype, check_grad
from syncbn.nn._select import select
from syncbn.typing import Backward, FloatArray


class ReLU(Module):
    """Rectified linear unit for any shape: y = max(x, 0), with derivative 0 at 0; NaN gives NaN."""

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y, in x's dtype and memory order, and its backward.

        Raises
        ------
        TypeError
            ``x`` isn't float32 or float64.
        """
        check_dtype("ReLU", x)
        y = np.maximum(x, 0)
        positive = x > 0
        dtype = x.dtype

        def backward(dy: FloatArray) -> FloatArray:
            return select(check_grad("ReLU", dy, positive.shape, dtype), positive)

        return y, backward
