"""Checks of arguments, whose errors contain the expected and the actual value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_integer, check_unmasked, hint, is_number, shown
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
        elif len(expected) == 2 < x.ndim:
            last = ": put nn.Flatten() or nn.GlobalAvgPool2d() before it"
        elif len(expected) == 4 and x.ndim == 3:
            last = ": images of one channel get its axis by x[:, None]"
        raise ValueError(f"{layer} expects x of shape ({', '.join(map(str, expected))}), got {x.shape}{last}")


def check_grad(layer: str, dy: FloatArray, shape: tuple[int, ...], dtype: np.dtype[ScalarT]) -> NDArray[ScalarT]:
    """Return ``dy`` in the dtype of y; raise ValueError unless it has y's shape, and TypeError for None."""
    notice_backward(dy)
    if type(dy) is np.ndarray and dy.shape == shape and dy.dtype == dtype:
        return dy  # type: ignore[return-value]  # it has y's dtype
    check_unmasked(dy, "dy")
    if dy is None or isinstance(dy, tuple):
        raise TypeError(
            f"backward of {layer} expects dy, an array of y's shape {shape}, got {shown(dy)}: the backward of each "
            f"layer must return dx, and the second result of a loss is dy{see('layers-return-two-values')}"
        )
    if np.shape(dy) != shape:
        loss = "" if np.shape(dy) else ": the second result of a loss is dy"
        raise ValueError(f"backward of {layer} expects dy of y's shape {shape}, got {np.shape(dy)}{loss}")
    with np.errstate(all="ignore"):  # what the dtype can't hold becomes infinite, as in every conversion
        converted = np.asarray(dy, dtype)
    if converted is not dy and np.asarray(dy).dtype.kind not in "fV":  # V: other floating types, those of ml_dtypes
        raise TypeError(f"backward of {layer} expects dy of floats, got {np.asarray(dy).dtype}{see('dtypes')}")
    return converted


def hint_labels(name: str, labels: NDArray[Any]) -> str:
    """Return how labels of two axes become class numbers of shape (N,)."""
    if labels.ndim != 2:
        return ""
    if labels.shape[1] == 1:
        return f": a column of class numbers becomes an array of shape (N,) by {name}[:, 0]"
    return f": one-hot labels become class numbers by {name}.argmax(axis=1)"


def check_sample_shape(input_shape: Sequence[int]) -> list[int]:
    """Return the shape of one sample; raise TypeError or ValueError unless it is a sequence of positive integers."""
    if not isinstance(input_shape, Sequence) or isinstance(input_shape, str):
        raise TypeError(f"{_SAMPLE_SHAPE}, got {shown(input_shape)}")
    try:
        return [check_integer("a size", size) for size in input_shape]
    except (TypeError, ValueError) as error:
        raise type(error)(f"{_SAMPLE_SHAPE}, got {shown(tuple(input_shape))}: {error}") from None


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


def as_number(name: str, value: float, advice: str = "") -> float:
    """Return ``value`` as a float, or raise TypeError, whose text ends with the advice, unless it is a number."""
    if type(value) in (int, float) or is_number(value):  # the usual types first: losses are checked in each step
        return float(value)
    raise TypeError(f"{name} must be a number, got {shown(value)}{advice}")


def check_number(name: str, value: float, *, below: float = math.inf) -> float:
    """Return ``value`` as a float in [0, below)."""
    schedule = callable(value) or hasattr(value, "lr")  # or the optimizer that PyTorch's schedules take
    number = as_number(name, value, _SCHEDULE if schedule and name.endswith("lr") else "")
    if not 0.0 <= number < below:  # NaN fails too
        expected = "a finite number of at least 0" if below == math.inf else f"in [0, {below:g})"
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return number


_SCHEDULE = (
    ": a schedule is a function of the step, made of numbers as CosineSchedule(0.1, total_steps=1000); before each "
    f"step, set optimizer.lr = schedule(step), or pass Trainer(schedule=schedule){see('learning-rates')}"
)


def check_rng(rng: np.random.Generator | int | None) -> np.random.Generator:
    """Return ``rng`` itself, a random number generator with this seed, or for None one that differs in each run."""
    try:
        if not isinstance(rng, (bool, np.bool)):  # which would be the seed 0 or 1
            return np.random.default_rng(rng)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"rng must be a numpy.random.Generator, a seed of at least 0, or None, got {shown(rng)}")
