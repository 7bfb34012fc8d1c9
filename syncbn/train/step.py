"""One step of data-parallel training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn.comm import Communicator
from syncbn.layers import Module
from syncbn.nn import Optimizer, softmax_cross_entropy
from syncbn.pitfalls import see
from syncbn.train.buffers import copy_buffers, restore_buffers
from syncbn.train.errors import communicators
from syncbn.train.evaluation import count_wrong
from syncbn.train.gradients import FlatGradients
from syncbn.train.order import own_share
from syncbn.typing import FloatArray, Int64Array


@dataclass(frozen=True)
class StepResult:
    """Loss and error over the global batch, and the time and the sent bytes of the step on this rank."""

    loss: float
    wrong: int
    seconds: float
    bytes_sent: int


class TrainingStep:
    """One step: forward, backward, sum of the gradients over ranks, update.

    The loss of every rank is divided by the size of the *global* batch. So the sums over ranks are the mean loss over
    the global batch and its gradient, also if the ranks have different numbers of samples. A step that fails before
    the update changes nothing.

    Not collective, but `run` is.

    Parameters
    ----------
    model : Module
    optimizer : Optimizer
        Optimizer of the parameters whose gradients are added over ranks.
    comm : Communicator
    wire_dtype : dtype, optional
        Dtype of the sums, as described in `FlatGradients`.

    Attributes
    ----------
    updating : bool
        Whether the update has begun, which cannot be undone. The caller sets it to False after recording the step.
    """

    def __init__(
        self, model: Module, optimizer: Optimizer, comm: Communicator, wire_dtype: DTypeLike | None = None
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.comm = comm
        self.updating: bool = False
        self.gradients: FlatGradients = FlatGradients(
            optimizer.parameters, wire_dtype, scalars=2
        )  # the loss, and wrong classes
        # To list them in every step would take long.
        self._modules = list(model.modules())
        self._parameters = [*model.parameters(), *optimizer.parameters]
        self._signature = replace(self.gradients.signature, operation="training step")
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        # Layers may have communicators of groups of ranks, which count their own bytes.
        self._communicators = {comm, *communicators(model)}

    def run(self, x: FloatArray, y: NDArray[np.integer], batch: Int64Array, before: Callable[[], None]) -> StepResult:
        """Take one step on the samples ``batch`` of x and y.

        Collective. It calls ``before`` first, whose errors are raised on all ranks too.
        """
        buffers = []
        try:
            with self.comm._protocol.collective_errors(self._signature, handshake=True):
                before()
                buffers = copy_buffers(self._modules)  # the running statistics, which the forward changes
                start, bytes_before = perf_counter(), self._bytes_sent()
                self.gradients.take(*self._forward_backward(x, y, batch))
            loss = self.gradients.finish(self.comm)
            self.updating = True
        except BaseException:  # KeyboardInterrupt too
            restore_buffers(buffers)
            raise
        self.optimizer.step()
        wrong = round(float(self.gradients.scalars[1]))
        return StepResult(loss, wrong, perf_counter() - start, self._bytes_sent() - bytes_before)

    def _forward_backward(self, x: FloatArray, y: NDArray[np.integer], batch: Int64Array) -> tuple[float, int]:
        """Return this rank's share of the mean loss, and the number of samples that have a wrong class."""
        own = batch[own_share(len(batch), self.comm.rank, self.comm.size)]
        for parameter in self._parameters:
            parameter.grad = None
        logits, backward = self.model(x[own])
        loss, dlogits = softmax_cross_entropy(logits, y[own], len(batch))
        backward(dlogits)
        for parameter in self.optimizer.parameters:
            if parameter.grad is None:
                raise ValueError(
                    f"parameter {self._names[id(parameter)]!r} has no gradient after the backward: is its layer part "
                    "of the forward, and does its backward call add_grad? If not, leave it out of the optimizer"
                    f"{see('gradients-that-are-missing')}"
                )
        return loss, count_wrong(logits, y[own])

    def _bytes_sent(self) -> int:
        return sum(comm.bytes_sent for comm in self._communicators)
