"""A trainable array and its gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from syncbn.typing import FloatArray


class Parameter:
    """A trainable array and the gradient that backward passes add up for it.

    Parameters
    ----------
    data : ndarray
        Initial value. It is kept, not copied; optimizers write into it.
    decay : bool
        Whether weight decay applies. Normalizers set it to False for γ and β.

    Attributes
    ----------
    data : ndarray
        The value.
    grad : ndarray or None
        Sum of the gradients since the last ``zero_grad``; None before the first backward.
    """

    __slots__ = ("data", "decay", "grad")

    def __init__(self, data: FloatArray, *, decay: bool = True) -> None:
        self.data = data
        self.decay = decay
        self.grad: FloatArray | None = None

    def add_grad(self, grad: NDArray[np.floating]) -> None:
        """Add ``grad`` (same shape as ``data``) to the gradient, in the parameter's dtype."""
        if grad.shape != self.data.shape:
            raise ValueError(f"gradient of shape {grad.shape} for a parameter of shape {self.data.shape}")
        if self.grad is None and grad.dtype == self.data.dtype:
            self.grad = grad.copy()  # the caller may keep its own
            return
        with np.errstate(all="ignore"):  # infinities and NaN of the sum say it
            self.grad = grad.astype(self.data.dtype) if self.grad is None else np.add(self.grad, grad, out=self.grad)

    def __repr__(self) -> str:
        return f"Parameter(shape={self.data.shape}, dtype={self.data.dtype}, decay={self.decay})"
