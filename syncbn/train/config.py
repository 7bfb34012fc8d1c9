"""Descriptions of a training run, which must be equal on all ranks and in a run that resumes from a checkpoint."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import is_dataclass

import numpy as np
from numpy.typing import NDArray

from syncbn.layers import Module
from syncbn.nn import Optimizer
from syncbn.typing import FloatArray

_COMPARED_SAMPLES = 256


def describe_model(model: Module) -> dict[str, str]:
    """Return class and arguments of every layer, and dtype and shape of every parameter and buffer, by name.

    Layers that only contain others, and have no arguments, are left out: what they are called does not matter.
    """
    layers = {
        name: f"{type(layer).__name__}({arguments})"
        for name, layer in model.named_modules()
        if (arguments := layer.extra_repr()) or next(layer.children(), None) is None
    }
    return {
        **{f"layer '{name}'" if name else "model": text for name, text in layers.items()},
        **{name: f"{array.dtype} {array.shape}" for name, array in model.state_dict().items()},
    }


def describe_optimizer(optimizer: Optimizer) -> str:
    """Return class and hyperparameters, without the learning rate, which is part of the optimizer's state."""
    settings = ", ".join(f"{name}={value!r}" for name, value in optimizer.settings().items())
    return f"{type(optimizer).__name__}({settings})"


def describe_schedule(schedule: Callable[[int], float] | None) -> str:
    """Return the repr of a schedule, or the name of a function, whose repr would contain its address."""
    if schedule is None or is_dataclass(schedule):
        return repr(schedule)
    return str(getattr(schedule, "__qualname__", type(schedule).__qualname__))


def describe_data(x: FloatArray, y: NDArray[np.integer]) -> dict[str, str]:
    """Return shapes, dtypes and checksums of the labels and of the samples (256 of them, to save time)."""
    some = np.linspace(0, len(x) - 1, min(len(x), _COMPARED_SAMPLES)).astype(int)
    return {
        "samples": f"{x.dtype} {x.shape} crc32 {zlib.crc32(x[some].tobytes()):08x}",
        "labels": f"{y.dtype} {y.shape} crc32 {zlib.crc32(y.tobytes()):08x}",
    }


def describe_training(
    model: Module,
    optimizer: Optimizer,
    schedule: Callable[[int], float] | None,
    **choices: object,
) -> dict[str, str]:
    """Return the descriptions, by name, that must be equal in a run that resumes from a checkpoint."""
    return {
        **{name: str(value) for name, value in choices.items()},
        "optimizer": describe_optimizer(optimizer),
        "schedule": describe_schedule(schedule),
        **describe_model(model),
    }
