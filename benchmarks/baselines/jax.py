"""Batch normalization compiled by JAX (XLA) for the CPU, one function for each direction."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from case import Candidate
from shapes import EPS, Problem

CPU_SHARE = 1.9
"""JAX dispatches a call in one thread and computes it in another, which overlap where calls are short."""


def forward(problem: Problem) -> Candidate:
    """Return batch normalization in training."""
    x, _, weight, bias = _arrays(problem)
    compiled = jax.jit(lambda x, weight, bias: _forward(x, weight, bias, _axis(problem)))
    return Candidate(
        lambda: jax.block_until_ready(compiled(x, weight, bias)),
        lambda result: (_logical(result[0], problem),),
        cpu_share=CPU_SHARE,
    )


def backward(problem: Problem) -> Candidate:
    """Return the gradients dx, dγ and dβ of batch normalization from the saved statistics."""
    x, dy, weight, bias = _arrays(problem)
    _, mean, invstd = _forward(x, weight, bias, _axis(problem))
    compiled = jax.jit(lambda *arrays: _backward(*arrays, _axis(problem)))
    return Candidate(
        lambda: jax.block_until_ready(compiled(x, dy, weight, mean, invstd)),
        lambda result: (_logical(result[0], problem), *result[1:]),
        cpu_share=CPU_SHARE,
    )


def _forward(x: Any, weight: Any, bias: Any, channel_axis: int) -> tuple[Any, Any, Any]:
    """Normalize with var = E[x²] − E[x]², the default of Flax, which XLA sums in one pass."""
    axes, shape = _axes_and_shape(x, channel_axis)
    mean = x.mean(axes)
    var = jnp.maximum(jnp.square(x).mean(axes) - jnp.square(mean), 0)
    invstd = jax.lax.rsqrt(var + EPS)
    y = (x - mean.reshape(shape)) * (invstd * weight).reshape(shape) + bias.reshape(shape)
    return y, mean, invstd


def _backward(x: Any, dy: Any, weight: Any, mean: Any, invstd: Any, channel_axis: int) -> tuple[Any, Any, Any]:
    """Return the gradients in closed form, which is less work than automatic differentiation."""
    axes, shape = _axes_and_shape(x, channel_axis)
    centred = x - mean.reshape(shape)
    count = x.size // mean.size
    dbias = dy.sum(axes)
    dweight = (dy * centred).sum(axes) * invstd
    c = invstd * dweight / count
    dx = (dy - (dbias / count).reshape(shape) - centred * c.reshape(shape)) * (weight * invstd).reshape(shape)
    return dx, dweight, dbias


def _axes_and_shape(x: Any, channel_axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    axes = tuple(axis for axis in range(x.ndim) if axis != channel_axis % x.ndim)
    return axes, tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))


def _axis(problem: Problem) -> int:
    return -1 if problem.channels_last else 1


def _arrays(problem: Problem) -> tuple[Any, Any, Any, Any]:
    """Return x, dy, γ and β; for channels-last memory, the shape of x and dy is (N, H, W, C)."""
    x, dy = problem.x, problem.dy
    if problem.channels_last:
        x, dy = np.moveaxis(x, 1, -1), np.moveaxis(dy, 1, -1)
    return jnp.asarray(x), jnp.asarray(dy), jnp.asarray(problem.weight), jnp.asarray(problem.bias)


def _logical(array: Any, problem: Problem) -> np.ndarray:
    return np.moveaxis(np.asarray(array), -1, 1) if problem.channels_last else np.asarray(array)
