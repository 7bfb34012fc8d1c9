"""The hyperbolic tangent."""

from __future__ import annotations

import numpy as np

from syncbn.layers.module import Module
from syncbn.nn._checks import check_dtype, check_grad
from syncbn.typing import Backward, FloatArray


class Tanh(Module):
    """Hyperbolic tangent for any shape: y = tanh(x), with derivative 1 − y²."""

    @np.errstate(all="ignore")  # NaN of the result say it
    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y, in x's dtype and memory order, and its backward, until which y must not change.

        Raises
        ------
        TypeError
            ``x`` isn't float32 or float64.
        """
        check_dtype("Tanh", x)
        y = np.tanh(x)

        @np.errstate(all="ignore")
        def backward(dy: FloatArray) -> FloatArray:
            dx: FloatArray = check_grad("Tanh", dy, y.shape, y.dtype) * (1 - y * y)
            return dx

        return y, backward
