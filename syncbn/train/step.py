"""One step of data-parallel training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn.comm import CollectiveSignature, Communicator
from syncbn.layers import Module
from syncbn.nn import Optimizer, softmax_cross_entropy
from syncbn.train.gradients import FlatGradients
from syncbn.train.order import shard
from syncbn.typing import FloatArray, Int64Array


@dataclass(frozen=True)
class StepResult:
    """The loss over the global batch, and what the step took on this rank."""

    loss: float
    seconds: float
    bytes_sent: int


class TrainingStep:
    """Forward, backward, gradients added over ranks, update.

    Every rank's loss is divided by the size of the *global* batch, so the sums over ranks are the loss and
    the gradient of the mean over the global batch, however uneven the shares are.

    Not collective, but `run` is.

    Parameters
    ----------
    model : Module
    optimizer : Optimizer
        Its parameters' gradients are added over ranks.
    comm : Communicator
    wire_dtype : dtype, optional
        As in `FlatGradients`.
    """

    def __init__(
        self, model: Module, optimizer: Optimizer, comm: Communicator, wire_dtype: DTypeLike | None = None
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.comm = comm
        self.gradients = FlatGradients(optimizer.parameters, wire_dtype)
        self._parameters = [*model.parameters(), *optimizer.parameters]  # finding them takes long
        buffer = self.gradients.buffer
        self._signature = CollectiveSignature(
            "training step", (("gradients", buffer.size), ("dtype", str(buffer.dtype))), has_data=True
        )
        # Groups of ranks, over which some layers may take their statistics, count their own bytes.
        of_layers = [getattr(module, "comm", None) for _, module in model.named_modules()]
        self._communicators = {comm, *(c for c in of_layers if isinstance(c, Communicator))}

    def run(self, x: FloatArray, y: NDArray[np.integer], batch: Int64Array, before: Callable[[], None]) -> StepResult:
        """Take one step on the samples ``batch`` of x and y.

        Collective. ``before`` is called first, and its errors are raised on all ranks, too.
        """
        with self.comm._protocol.collective_errors(self._signature, handshake=True):
            before()
            start, bytes_before = perf_counter(), self._bytes_sent()
            self.gradients.take(self._forward_backward(x, y, batch))
        loss = self.gradients.add_over_ranks(self.comm)
        self.optimizer.step()
        return StepResult(loss, perf_counter() - start, self._bytes_sent() - bytes_before)

    def _forward_backward(self, x: FloatArray, y: NDArray[np.integer], batch: Int64Array) -> float:
        own = batch[shard(len(batch), self.comm.rank, self.comm.size)]
        for parameter in self._parameters:
            parameter.grad = None
        logits, backward = self.model(x[own])
        loss, dlogits = softmax_cross_entropy(logits, y[own], len(batch))
        backward(dlogits)
        return loss

    def _bytes_sent(self) -> int:
        return sum(comm.bytes_sent for comm in self._communicators)
