"""Checks of the arguments of a training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_flag, check_integer, check_unmasked, hint, shown
from syncbn.layers import Module
from syncbn.nn import Optimizer
from syncbn.nn._checks import hint_labels
from syncbn.pitfalls import see
from syncbn.train.errors import check_model
from syncbn.typing import FloatArray


def check_arguments(
    model: Module,
    optimizer: Optimizer,
    schedule: Callable[[int], float] | None,
    batch_per_rank: int,
    seed: int,
    drop_last: bool,
    check_every: int | None,
) -> None:
    """Raise TypeError or ValueError if an argument of a `Trainer` is invalid."""
    check_model(model)
    check_integer("batch_per_rank", batch_per_rank)
    check_integer("seed", seed, 0)
    check_flag("drop_last", drop_last)
    if check_every is not None:
        check_integer("check_every", check_every)
    if not (schedule is None or callable(schedule)) or isinstance(schedule, type):
        raise TypeError(
            f"schedule must be a function of the step, such as CosineSchedule(0.1, total_steps=1000), or None, got "
            f"{shown(schedule)}: a constant learning rate is that of the optimizer"
        )
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            "optimizer must be one of syncbn.nn, such as nn.SGD(model.parameters(), lr=0.1), got "
            f"{shown(optimizer)}{see('optimizers')}"
        )
    known = {id(parameter) for parameter in model.parameters()}
    if not all(id(parameter) in known for parameter in optimizer.parameters):
        raise ValueError(
            "the optimizer has a Parameter that is not in the model: build it with model.parameters() of this "
            f"model, after its last change{see('optimizers')}"
        )


def check_samples(x: FloatArray, y: NDArray[np.integer]) -> None:
    """Raise unless x is an array of floats and y has one integer for each sample."""
    check_unmasked(x, "x")
    check_unmasked(y, "y")
    if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
        what = hint(y if isinstance(x, np.ndarray) else x)
        if isinstance(x, np.ndarray) and isinstance(y, np.integer):
            what = f": one sample has arrays too, x[i : i + 1] and y[i : i + 1]{see('labels')}"
        elif hasattr(x, "x_train"):
            what = ": pass its x_train and y_train"
        raise TypeError(f"expected NumPy arrays, got {type(x).__name__} and {type(y).__name__}{what}")
    if not np.issubdtype(x.dtype, np.floating) or not np.issubdtype(y.dtype, np.integer):
        dtypes = f"{x.dtype} and {y.dtype}{hint_labels('y', y)}{see('labels')}"
        if not np.issubdtype(x.dtype, np.floating):
            dtypes = f"{x.dtype} and {y.dtype}: convert samples, as by x.astype(numpy.float32){see('dtypes')}"
        raise TypeError(f"expected samples of floats and labels of integers, got {dtypes}")
    if x.ndim < 2 or y.shape != x.shape[:1]:
        raise ValueError(
            f"expected samples of shape (N, ...) and labels of shape (N,), got {x.shape} and {y.shape}"
            f"{hint_labels('y', y)}{see('labels')}"
        )
