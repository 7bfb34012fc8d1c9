"""Batch normalization of tensors as a function, for layers that are no ``torch.nn.Module`` of this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from syncbn.torch import operators
from syncbn.torch.groups import LOCAL, Group
from syncbn.torch.tensors import array_of


def normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mask: Tensor | None,
    eps: float,
    channel_axis: int,
    group: Group | None,
    name: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return y, and the mean, the biased variance and the number of values per channel over all ranks.

    Collective, and so is the backward, unless ``group`` is None: this process alone. Tensors on the device "meta", with
    which Keras finds shapes, have no values and are not normalized.

    Parameters
    ----------
    x, weight, bias, mask, eps, channel_axis
        As in `syncbn.functional.batch_norm`, as tensors on the CPU.
    group : Group, optional
        Ranks that share the statistics.
    name : str
        Identity of the layer, compared across ranks.
    """
    channels = x.shape[channel_axis]
    if x.is_meta:
        return torch.empty_like(x), x.new_empty(channels), x.new_empty(channels), x.new_empty(())
    mode, anchor = (operators.GRAD, operators.ANCHOR) if torch.is_grad_enabled() else (operators.NO_GRAD, None)
    key = LOCAL if group is None else group.key
    moved = x.movedim(channel_axis, 1)
    y, moments, numbers = operators.normalize(
        moved, weight, bias, anchor, None, None, mask, eps, channels, key, name, mode
    )
    return y.movedim(1, channel_axis), moments[0], moments[1], numbers[0]


def transform(function: Callable[..., Sequence[NDArray[Any]]], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the results of a function of NumPy arrays, one for each tensor, in the dtypes of the tensors."""
    results = function(*map(array_of, tensors))
    return [torch.from_numpy(result).to(tensor.dtype) for result, tensor in zip(results, tensors, strict=True)]
