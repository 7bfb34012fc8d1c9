"""The logistic sigmoid."""

from __future__ import annotations

import numpy as np

from syncbn.layers.module import Module
from syncbn.nn._checks import check_dtype, check_grad
from syncbn.typing import Backward, FloatArray


class Sigmoid(Module):
    """Logistic sigmoid for any shape: y = 1/(1 + exp(−x)), with derivative y·(1 − y)."""

    @np.errstate(all="ignore")  # NaN of the result say it
    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y, in x's dtype and memory order, and its backward, until which y must not change.

        Raises
        ------
        TypeError
            ``x`` isn't float32 or float64.
        """
        check_dtype("Sigmoid", x)
        small = np.exp(-np.abs(x))  # at most 1, so it cannot overflow
        y = np.where(x < 0, small, 1).astype(x.dtype, copy=False)
        y /= 1 + small

        @np.errstate(all="ignore")
        def backward(dy: FloatArray) -> FloatArray:
            dx: FloatArray = check_grad("Sigmoid", dy, y.shape, y.dtype) * y * (1 - y)
            return dx

        return y, backward
