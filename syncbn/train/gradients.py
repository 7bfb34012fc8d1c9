"""The gradients of all parameters in one array, which one message adds over ranks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn._core.checks import check_integer, shown
from syncbn.comm import CollectiveSignature, CommLike, Communicator, as_communicator
from syncbn.layers import Parameter
from syncbn.layers.parameter import floating_dtype


class FlatGradients:
    """A preallocated array for the gradients of all parameters and a few scalars, such as the loss.

        flat.take(loss)
        loss = flat.add_over_ranks(comm)

    `sum_gradients` does this for a model, and checks more.

    Parameters
    ----------
    parameters : sequence of Parameter
    dtype : dtype, optional
        Dtype of the sums over ranks, float32 or float64. None is float64 if any parameter is, else float32.
    scalars : int
        Number of values that are added besides the gradients, at least the loss.

    Attributes
    ----------
    buffer : ndarray, shape (number of values + scalars,)
        The gradients, followed by the scalars.
    scalars : ndarray, shape (scalars,)
        View of the scalars.
    signature : CollectiveSignature
        Description of `add_over_ranks`, which must be equal on all ranks.

    See Also
    --------
    syncbn.train.sum_gradients : The sums for a model, with checks.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import MPIComm, Parameter
    >>> from syncbn.train import FlatGradients
    >>> comm, parameter = MPIComm(), Parameter(np.zeros(3))
    >>> gradients = FlatGradients([parameter])
    >>> parameter.add_grad(np.ones(3))
    >>> gradients.take(0.5)  # the loss of this rank
    >>> loss = gradients.add_over_ranks(comm)
    >>> bool((parameter.grad == comm.size).all()), loss == 0.5 * comm.size
    (True, True)
    """

    def __init__(self, parameters: Sequence[Parameter], dtype: DTypeLike | None = None, scalars: int = 1) -> None:
        if not isinstance(parameters, Iterable):
            raise TypeError(f"FlatGradients expects Parameters, as list(model.parameters()), got {shown(parameters)}")
        self.parameters: list[Parameter] = list(parameters)
        if dtype is None:
            dtype = np.result_type(np.float32, *(p.data.dtype for p in self.parameters))  # MPI has no float16
        wire = floating_dtype(dtype)
        if wire == np.float16:
            raise TypeError("gradients are added in float32 or float64, got float16")
        check_integer("scalars", scalars)
        ends = np.cumsum([0, *(parameter.data.size for parameter in self.parameters)], dtype=int)
        self.buffer: NDArray[np.floating] = np.zeros(int(ends[-1]) + scalars, wire)
        self.scalars: NDArray[np.floating]
        *pieces, self.scalars = np.split(self.buffer, ends[1:])
        self._views = [
            piece.reshape(parameter.data.shape) for piece, parameter in zip(pieces, self.parameters, strict=True)
        ]
        arguments = ("gradients", self.buffer.size), ("dtype", str(wire))
        self.signature: CollectiveSignature = CollectiveSignature("sum of gradients", arguments, has_data=True)

    def take(self, *scalars: float) -> None:
        """Copy all gradients and ``scalars`` to the buffer. A parameter without gradient contributes zeros.

        Raises
        ------
        TypeError
            The number of scalars is not that of the constructor.
        """
        if len(scalars) != self.scalars.size:
            raise TypeError(f"take expects {self.scalars.size} scalars, got {len(scalars)}")
        with np.errstate(all="ignore"):  # values beyond the range of the dtype become infinite, as in every conversion
            for parameter, view in zip(self.parameters, self._views, strict=True):
                view[...] = 0 if parameter.grad is None else parameter.grad
            self.scalars[:] = scalars

    def add_over_ranks(self, comm: CommLike) -> float:
        """Replace all gradients by their sums over ranks, and return the sum of the first scalar, the loss.

        Collective. The gradients are valid until the next `take`.

        Raises
        ------
        SyncMismatchError
            Ranks have different numbers or dtypes of gradients, or make different calls.
        """
        communicator = as_communicator(comm)
        communicator._protocol.handshake(self.signature)
        return self.finish(communicator)

    def finish(self, comm: Communicator) -> float:
        """Do the second half of `add_over_ranks`, after a handshake with its ``signature``. Collective."""
        comm._protocol.sum(self.buffer)
        with np.errstate(all="ignore"):
            for parameter, view in zip(self.parameters, self._views, strict=True):
                parameter.grad = view.astype(parameter.data.dtype, copy=False)
                parameter.summed = True
        return float(self.scalars[0])
