"""The update of running statistics, in eager calls and in graphs that are compiled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from syncbn._core.plans import update_average
from syncbn.moments import Moments
from syncbn.torch.differentiable import is_traced
from syncbn.torch.tensors import HALF, array_of


def _track(
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    moments: Tensor,
    numbers: Tensor,
    momentum: float | None,
) -> None:
    """Update running statistics in place; with momentum None they are the averages over all batches."""
    count = numbers.tolist()[0]
    if count == 0:
        return
    num_batches_tracked += 1
    if momentum is None:
        momentum = 1.0 / int(num_batches_tracked)
    batch = Moments(count, *moments.numpy()[:2])
    running = array_of(running_mean), array_of(running_var)
    for average, value in zip(running, (batch.mean, batch.unbiased_var), strict=True):
        update_average(average, value, momentum)
    for tensor, array in zip((running_mean, running_var), running, strict=True):
        if tensor.dtype in HALF:
            tensor.copy_(torch.from_numpy(array))
        else:
            torch.autograd.graph.increment_version(tensor)  # its memory was written by NumPy


def _track_fake(*_: Any) -> None:
    return None


_track_operator = torch.library.custom_op(
    "syncbn::track", _track, mutates_args=("running_mean", "running_var", "num_batches_tracked")
)
_track_operator.register_fake(_track_fake)


def track(running_mean: Tensor, *arguments: Any) -> None:
    """Update running statistics, as described in `_track`."""
    (_track_operator if is_traced(running_mean) else _track)(running_mean, *arguments)


def forward_is_repeated() -> bool:
    """Return whether autograd runs a backward in this thread, in which activation checkpointing repeats a forward.

    In a graph of torch.compile it is False: there, the compiler repeats a forward without its changes of buffers.
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
