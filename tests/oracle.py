"""Normalization by its formulas in extended precision, with which the package is compared."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Normalized(NamedTuple):
    y: Array
    mean: Array
    var: Array
    dx: Array
    dweight: Array
    dbias: Array


def normalize(
    x: Array, dy: Array, axes: tuple[int, ...], weight: Array, bias: Array, eps: float, selected: Array | bool = True
) -> Normalized:
    """Normalize over ``axes`` with the statistics of the ``selected`` values.

    weight and bias broadcast to x; their gradients are returned per value, to be summed over shared values.
    """
    x, dy, weight, bias = (np.asarray(a, np.longdouble) for a in (x, dy, weight, bias))
    selected = np.broadcast_to(selected, x.shape)
    count = selected.sum(axes, keepdims=True)
    mean = np.where(selected, x, 0).sum(axes, keepdims=True) / count
    var = np.where(selected, (x - mean) ** 2, 0).sum(axes, keepdims=True) / count
    std = np.sqrt(var + eps)
    x_hat = (x - mean) / std
    g = dy * weight
    through = g.sum(axes, keepdims=True) + x_hat * (g * x_hat).sum(axes, keepdims=True)
    dx = (g - np.where(selected, through / count, 0)) / std
    return Normalized(x_hat * weight + bias, mean, var, dx, dy * x_hat, dy)


def batch_norm(
    x: Array, dy: Array, weight: Array, bias: Array, eps: float = 1e-5, mask: Array | None = None
) -> Normalized:
    """Batch normalization of (N, C, ...), with gradients of weight and bias of shape (C,)."""
    axes = (0, *range(2, x.ndim))
    to_c = (1, -1) + (1,) * (x.ndim - 2)
    selected = True if mask is None else np.expand_dims(np.broadcast_to(mask, (x.shape[0], *x.shape[2:])), 1)
    full = normalize(x, dy, axes, weight.reshape(to_c), bias.reshape(to_c), eps, selected)
    return full._replace(
        mean=full.mean.ravel(),
        var=full.var.ravel(),
        dweight=full.dweight.sum(axes),
        dbias=full.dbias.sum(axes),
    )


def assert_close(
    actual: Array, expected: Array, tolerance: float, what: str = "", scale: np.floating[Any] | float | None = None
) -> None:
    """Assert |actual − expected| ≤ tolerance·scale; the default scale is the largest expected value."""
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if actual.size == 0:
        return
    scale = np.abs(expected).max() if scale is None else scale
    error = np.abs(actual - expected).max()
    assert error <= tolerance * scale, f"{what}: error {error:.3g} where {tolerance * scale:.3g} is allowed"
