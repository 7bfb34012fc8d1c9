"""A recorder of the layers of a model during its training."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from syncbn._core.checks import check_integer
from syncbn.comm import CommLike, Communicator
from syncbn.files import check_path
from syncbn.layers import Module
from syncbn.layers._batch import BatchNormalizer
from syncbn.monitor.figure import plot
from syncbn.monitor.records import PathLike, Record, as_line, statistics
from syncbn.nn import ReLU
from syncbn.train.errors import check_model, collective_errors, find_communicator, of_all_ranks
from syncbn.typing import Float64Array, FloatArray


@dataclass
class _Observation:
    """Observations of one call of a layer, on this rank."""

    record: Record
    positives: Float64Array = field(default_factory=lambda: np.zeros(0))
    """Number of positive outputs of each unit of a ReLU."""
    squares: float = 0.0
    """Sum of the squares of the gradient of the output."""


class Monitor:
    """A recorder of the layers of a model during its training, which writes a line of JSON for each layer and step.

    Collective: all ranks make it with equal arguments, and the end of every recorded backward of the model, in training
    mode, is collective too. Rank 0 writes the file. It works with `syncbn.train.Trainer` and with loops of your own. A
    step is one forward and backward of the whole model in training mode, numbered from 0.

    A line is an object with ``step``, ``layer`` (its name in the model), ``type`` (its class), and what applies of:

    - ``batch_mean``, ``batch_var``: statistics of the batch in a batch normalization layer, of all ranks if it is
      synchronized, else of rank 0; ``running_mean``, ``running_var``: its running statistics after the step.
    - ``mean_distance``: root mean square over the channels of (batch_mean − running_mean)/√(running_var + eps).
    - ``var_distance``: root mean square over the channels of ln((batch_var + eps)/(running_var + eps)), with the
      unbiased variance of the batch.
    - ``dead``: fraction of the units of a ReLU, indices of ``channel_axis``, without a positive output in the batch of
      all ranks.
    - ``output_grad_norm``: norm of the gradient of the layer's output, over the samples of all ranks.
    - ``grad_norms``: for each parameter of the layer, the norm of its gradient, which is summed over all ranks as by
      `syncbn.train.sum_gradients`.

    Numbers that are not finite are null. Statistics of synchronized layers and ``dead`` do not depend on the number of
    ranks, as far as the inputs of the layer do not; norms do in their last digits, as they are sums in floating
    point. The training itself has the same bits as without a monitor. If a layer is called several times in a step, its
    last call counts.

    Parameters
    ----------
    model : Module
    path : path
        File that rank 0 writes, replacing an earlier one.
    comm : CommLike
        Ranks that train. None means the communicator of the model's synchronized layers if all processes belong to
        it, or else COMM_WORLD; without mpi4py, this process only.
    every : int
        Number of steps from one record to the next. Other steps cost nothing.
    channel_axis : int
        Axis of the units in the output of a ReLU.

    Attributes
    ----------
    path : Path
    steps : int
        Number of steps, recorded or not.

    Raises
    ------
    ValueError, TypeError, OSError
        An argument is invalid, or the file cannot be written.
    SyncMismatchError
        Another rank has raised one of these errors, or has other arguments.

    See Also
    --------
    syncbn.monitor.plot : Draw the records.
    syncbn.monitor.read_records : Read them.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import BatchNorm, SerialComm, nn
    >>> from syncbn.monitor import Monitor
    >>> model = nn.Sequential(nn.Dense(4, 3), BatchNorm(3), nn.ReLU())
    >>> with Monitor(model, "run.jsonl", SerialComm()) as monitor:
    ...     y, backward = model(np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32))
    ...     dx = backward(y)
    >>> monitor.steps
    1
    >>> figure = monitor.plot("run.png")
    """

    @of_all_ranks
    def __init__(
        self, model: Module, path: PathLike, comm: CommLike = None, *, every: int = 1, channel_axis: int = 1
    ) -> None:
        self.comm: Communicator = find_communicator(comm, model)
        self.steps = 0
        self._calls: dict[str, _Observation] = {}
        self._file: TextIO | None = None
        self._hooks: list[Any] = []
        try:
            with collective_errors(self.comm, "Monitor", every=every, channel_axis=channel_axis):
                check_model(model)
                self.model = model
                self.every: int = check_integer("every", every)
                self.channel_axis: int = check_integer("channel_axis", channel_axis, None)
                self.path: Path = check_path("path", path)
                if self.comm.rank == 0:
                    self._file = self.path.open("w", encoding="utf-8")
        except BaseException:
            self.close()
            raise
        for name, module in model.named_modules():
            if isinstance(module, (BatchNormalizer, ReLU)) or any(True for _ in module.own_parameters()):
                self._hooks.append(module.register_forward_hook(partial(self._observe, name)))
        self._hooks.append(model.register_forward_hook(self._end_forward))

    def close(self) -> None:
        """Stop recording and close the file. Not collective; all ranks do it at the same step."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self._file is not None:
            with suppress(OSError):  # every line has been flushed, or its error raised
                self._file.close()
            self._file = None

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def plot(self, output: PathLike | None = None) -> Any:
        """Draw the records and return the figure; see `syncbn.monitor.plot`. Not collective: one rank may draw."""
        return plot(self.path, output)

    @property
    def _due(self) -> bool:
        return self.model.training and self.steps % self.every == 0

    def _observe(self, name: str, module: Module, _arguments: object, result: tuple[FloatArray, Any]) -> Any:
        """Observe a call of a layer: it is a forward hook."""
        if not self._due:
            return None
        y, backward = result
        call = _Observation({"layer": name, "type": type(module).__name__})
        self._calls[name] = call
        if isinstance(module, BatchNormalizer) and module.training:
            call.record |= statistics(module)
        if isinstance(module, ReLU):
            units = np.moveaxis(y, self.channel_axis, 0)
            call.positives = np.count_nonzero(units.reshape(len(units), -1) > 0, axis=1).astype(np.float64)

        def observed(dy: FloatArray) -> Any:
            dx = backward(dy)
            with np.errstate(all="ignore"):  # what is not finite is null in the file
                call.squares += float(np.sum(np.square(dy, dtype=np.float64)))
            return dx

        return y, observed

    def _end_forward(self, _module: Module, _arguments: object, result: tuple[FloatArray, Any]) -> Any:
        """Record the step when the backward of the whole model has ended: it is a forward hook."""
        if not self.model.training:
            return None
        (y, backward), due, calls = result, self._due, self._calls
        self._calls = {}

        def observed(dy: FloatArray) -> Any:
            dx = backward(dy)
            if self._hooks:
                if due:
                    self._record(calls)
                self.steps += 1
            return dx

        return y, observed

    def _record(self, calls: dict[str, _Observation]) -> None:
        """Add what the ranks have observed, and write it. Collective."""
        lines: dict[str, Record] = {name: {"step": self.steps, **call.record} for name, call in calls.items()}
        gradients = {
            name: np.zeros(p.data.size) if p.grad is None else p.grad.ravel()
            for name, p in self.model.named_parameters()
        }
        squares = np.array([call.squares for call in calls.values()])
        squares, *sums = self._add([squares, *(call.positives for call in calls.values()), *gradients.values()])
        positives, total_gradients = sums[: len(calls)], sums[len(calls) :]
        with np.errstate(all="ignore"):
            for line, square, units in zip(lines.values(), squares, positives, strict=True):
                if units.size:
                    line["dead"] = float(np.mean(units == 0))
                line["output_grad_norm"] = float(np.sqrt(square))
            for name, gradient in zip(gradients, total_gradients, strict=True):
                layer, _, parameter = name.rpartition(".")
                line = lines.setdefault(layer, {"step": self.steps, "layer": layer})
                line.setdefault("grad_norms", {})[parameter] = float(np.sqrt(np.sum(gradient**2)))
        with collective_errors(self.comm, "writing the record of a step"):
            if self._file is not None:
                self._file.write("".join(map(as_line, lines.values())))
                self._file.flush()

    def _add(self, arrays: list[Any]) -> list[Float64Array]:
        """Return the sums over ranks of all arrays, in one message. Collective."""
        buffer = np.concatenate([np.asarray(array, np.float64) for array in arrays])
        self.comm.allreduce(buffer)
        return np.split(buffer, np.cumsum([array.size for array in arrays])[:-1])
