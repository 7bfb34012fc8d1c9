"""Checks of arguments, whose errors contain the expected and the actual value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_integer, check_unmasked, hint
from syncbn.layers._losses import notice_backward
from syncbn.pitfalls import see
from syncbn.typing import FloatArray, ScalarT

Pair = tuple[int, int]


def check_dtype(layer: str, x: FloatArray) -> None:
    """Raise TypeError unless ``x`` is an array of float32 or float64."""
    check_unmasked(x, "x")
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{layer} expects a NumPy array, got {type(x).__name__}{hint(x)}")
    if x.dtype != np.float32 and x.dtype != np.float64:
        raise TypeError(
            f"{layer} expects float32 or float64, got {x.dtype}: convert it, as by astype(numpy.float32){see('dtypes')}"
        )


def check_input(layer: str, x: FloatArray, expected: Sequence[str | int]) -> None:
    """Raise unless ``x`` is float32 or float64 and its shape fits, e.g. ``("N", 3, "H", "W")``."""
    check_dtype(layer, x)
    fits = x.ndim == len(expected) and all(
        isinstance(size, str) or size == actual for size, actual in zip(expected, x.shape, strict=True)
    )
    if not fits:
        last = ""
        if x.ndim == len(expected) == 4 and x.shape[-1] == expected[1]:
            last = f" (channels on the last axis: numpy.moveaxis(x, -1, 1)){see('channels-last')}"
        raise ValueError(f"{layer} expects x of shape ({', '.join(map(str, expected))}), got {x.shape}{last}")


def check_grad(layer: str, dy: FloatArray, shape: tuple[int, ...], dtype: np.dtype[ScalarT]) -> NDArray[ScalarT]:
    """Return ``dy`` in the dtype of y; raise ValueError unless it has y's shape."""
    notice_backward(dy)
    check_unmasked(dy, "dy")
    if np.shape(dy) != shape:
        raise ValueError(f"backward of {layer} expects dy of y's shape {shape}, got {np.shape(dy)}")
    with np.errstate(all="ignore"):  # what the dtype can't hold becomes infinite, as in every conversion
        return np.asarray(dy, dtype)


def hint_labels(name: str, labels: NDArray[Any]) -> str:
    """Return how labels of two axes become class numbers of shape (N,)."""
    if labels.ndim != 2:
        return ""
    if labels.shape[1] == 1:
        return f": a column of class numbers becomes an array of shape (N,) by {name}[:, 0]"
    return f": one-hot labels become class numbers by {name}.argmax(axis=1)"


def check_sample_shape(input_shape: Sequence[int]) -> list[int]:
    """Return the shape of one sample; raise TypeError unless it is a sequence of integers."""
    if not isinstance(input_shape, Sequence) or isinstance(input_shape, str):
        shape = getattr(input_shape, "shape", None)
        found = repr(input_shape) if shape is None else f"{type(input_shape).__name__} of shape {tuple(shape)}"
        raise TypeError(f"{_SAMPLE_SHAPE}, got {found}")
    return [check_integer("input_shape", size) for size in input_shape]


@contextmanager
def sample_of_shape(shape: Sequence[int]) -> Iterator[None]:
    """Return a context in which a network gets a sample of ``shape``, whose errors say what ``input_shape`` is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{_SAMPLE_SHAPE}, and fit the network, got {tuple(shape)}: {error}") from error


_SAMPLE_SHAPE = "input_shape must be the shape of one sample, without the batch axis, such as x.shape[1:] or (784,)"


def check_pair(name: str, value: int | Sequence[int], minimum: int = 1) -> Pair:
    """Return (vertical, horizontal) from one integer for both or from a pair."""
    if not isinstance(value, Sequence):
        value = (value, value)
    if len(value) != 2:
        raise ValueError(f"{name} must be an integer or a pair of integers, got {value!r}")
    return check_integer(name, value[0], minimum), check_integer(name, value[1], minimum)


def check_number(name: str, value: float, *, below: float = math.inf) -> float:
    """Return ``value`` as a float in [0, below)."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        advice = ""
        if callable(value) or hasattr(value, "lr"):  # a schedule, or the optimizer that PyTorch's schedules take
            advice = (
                ": a schedule is a function of the step; before each step, set optimizer.lr = schedule(step), or pass "
                f"Trainer(schedule=schedule){see('learning-rates')}"
            )
        raise TypeError(f"{name} must be a number, got {_shown(value)}{advice}") from None
    if not 0.0 <= number < below:  # NaN fails too
        expected = "a finite number of at least 0" if below == math.inf else f"in [0, {below:g})"
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return number


def check_rng(rng: np.random.Generator | int | None) -> np.random.Generator:
    """Return ``rng`` itself, a random number generator with this seed, or for None one that differs in each run."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise TypeError(
            f"rng must be a numpy.random.Generator, a seed of at least 0, or None, got {_shown(rng)}"
        ) from None


def _shown(value: object) -> str:
    """Return a string or number as it is, and the type of anything else."""
    return repr(value) if isinstance(value, (str, int, float)) else type(value).__name__
