"""All gradients in one array, to be added over ranks in one message."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn.comm import Communicator
from syncbn.layers import Parameter


class FlatGradients:
    """A preallocated array for the gradients of all parameters and the loss.

    Parameters
    ----------
    parameters : sequence of Parameter
    dtype : dtype, optional
        float32 or float64, of the sums over ranks. None: float64 if any parameter is, else float32.

    Attributes
    ----------
    buffer : ndarray, shape (number of values + 1,)
    """

    def __init__(self, parameters: Sequence[Parameter], dtype: DTypeLike | None = None) -> None:
        self.parameters = list(parameters)
        if dtype is None:
            dtype = np.result_type(np.float32, *(p.data.dtype for p in self.parameters))  # MPI has no float16
        wire = np.dtype(dtype)
        if wire not in (np.float32, np.float64):
            raise TypeError(f"gradients are added in float32 or float64, got {wire}")
        ends = np.cumsum([parameter.data.size for parameter in self.parameters], dtype=int)
        self.buffer: NDArray[np.floating] = np.zeros(int(ends[-1]) + 1, wire)
        pieces = np.split(self.buffer[:-1], ends[:-1])
        self._views = [
            piece.reshape(parameter.data.shape) for piece, parameter in zip(pieces, self.parameters, strict=True)
        ]

    def take(self, loss: float) -> None:
        """Take each ``grad``, and ``loss``. A parameter without gradient contributes zeros."""
        for parameter, view in zip(self.parameters, self._views, strict=True):
            view[...] = 0 if parameter.grad is None else parameter.grad
        self.buffer[-1] = loss

    def add_over_ranks(self, comm: Communicator) -> float:
        """Replace each ``grad`` by the sum over ranks of what was taken; return that of the loss.

        Collective, and the last message of a call whose handshake has just been made. The new ``grad`` is valid
        until the next `take`.
        """
        comm._protocol.sum(self.buffer)
        for parameter, view in zip(self.parameters, self._views, strict=True):
            parameter.grad = view.astype(parameter.data.dtype, copy=False)
        return float(self.buffer[-1])
