"""A trainable array and its gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from syncbn.typing import FloatArray


class Parameter:
    """A trainable array and its gradient.

    Parameters
    ----------
    data : ndarray
        Initial value. It is not copied; optimizers write to it.
    decay : bool
        Whether weight decay applies. It is False for γ and β of normalizers.

    Attributes
    ----------
    data : ndarray
        Value.
    grad : ndarray or None
        Sum of the gradients of all backward passes since the last ``zero_grad``; None before the first one.
    """

    __slots__ = ("data", "decay", "grad")

    def __init__(self, data: FloatArray, *, decay: bool = True) -> None:
        self.data = data
        self.decay = decay
        self.grad: FloatArray | None = None

    def add_grad(self, grad: NDArray[np.floating]) -> None:
        """Add an array of the parameter's shape to the gradient, in the parameter's dtype."""
        if grad.shape != self.data.shape:
            raise ValueError(f"gradient of shape {grad.shape} for a parameter of shape {self.data.shape}")
        if self.grad is None and grad.dtype == self.data.dtype:
            self.grad = grad.copy()  # the caller may change its own array
            return
        with np.errstate(all="ignore"):  # infinities and NaN are visible in the sum
            self.grad = grad.astype(self.data.dtype) if self.grad is None else np.add(self.grad, grad, out=self.grad)

    def __repr__(self) -> str:
        return f"Parameter(shape={self.data.shape}, dtype={self.data.dtype}, decay={self.decay})"
