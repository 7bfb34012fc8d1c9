"""Synchronized batch normalization for JAX, on CPUs: under `jax.jit` and `jax.grad`, on ranks in separate processes.

The kernels of this package run in ordered callbacks to Python (``jax.experimental.io_callback``), one in each
direction. XLA's foreign function interface would avoid the way through Python, but its handlers are compiled code,
which would need a second protocol of collective calls, without mpi4py and Python's exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from numpy.typing import NDArray

from syncbn._core import plans
from syncbn._core.checks import check_eps, check_input
from syncbn.comm import SERIAL, CommLike, Communicator, as_communicator
from syncbn.comm.collective import collective
from syncbn.comm.errors import mark_raised_by_all


def _communicator(passed: Any) -> Communicator:
    return _of(passed.get("comm"))


def _of(comm: CommLike) -> Communicator:
    return SERIAL if comm is None else as_communicator(comm)


@collective(_communicator)
def batch_norm(
    x: jax.Array,
    weight: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
    mask: jax.Array | None = None,
    comm: CommLike = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""Normalize each channel with the mean and the variance of the batches of all ranks.

    .. math:: y = γ\,\frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}} + β

    Collective if ``comm`` has several ranks: all ranks must run the same calls in the same order, which they do if they
    run the same program, and if a rank differentiates, all must. It can be used under ``jax.jit``, ``jax.grad`` and
    ``jax.lax.scan``; JAX refuses ordered callbacks under ``jax.vmap`` and ``jax.checkpoint``.

    Parameters
    ----------
    x : jax.Array of float16, bfloat16, float32 or float64
        Input of 2 or more axes on a CPU, such as (N, C, H, W). Ranks may have different numbers of samples, or none.
    weight, bias : jax.Array of shape (C,), optional
        γ and β.
    eps : float
        Constant added to the variance, finite and at least 0. It is part of the program that JAX compiles.
    channel_axis : int
        Channel axis of x; -1 is channels-last, as in Flax.
    mask : jax.Array of bool, optional
        Selection of elements, broadcastable to x without its channel axis. The statistics are those of the selected
        elements of all ranks; all elements are normalized with them.
    comm : syncbn communicator or mpi4py.MPI.Intracomm, optional
        Ranks that share the statistics. None means this process alone.

    Returns
    -------
    y : jax.Array
        Result in x's shape and dtype; bfloat16 and float16 are computed in float32.
    mean, var : jax.Array of shape (C,)
        Mean and biased variance over all ranks, in float64 if ``jax_enable_x64`` is set, else rounded to float32. For
        moving averages: no gradient flows through them.

    Raises
    ------
    ValueError, TypeError
        Invalid arguments, when the call is traced.
    jax.errors.JaxRuntimeError
        From the compiled program: an error of the callback, whose text it repeats, such as SyncMismatchError, or
        ValueError for a single value per channel.

    See Also
    --------
    syncbn.functional.batch_norm : The function for arrays outside of ``jit`` and ``grad``.

    Notes
    -----
    y, mean, var and dx have the same bits for every number of ranks and every split of the samples. The gradients of
    ``weight`` and ``bias`` are local sums of this rank: sum or average them over ranks, with the other gradients.

    References
    ----------
    Ioffe & Szegedy 2015, arXiv:1502.03167; Peng et al. 2018, MegDet, arXiv:1711.07240.

    Examples
    --------
    >>> import jax
    >>> from mpi4py import MPI
    >>> from syncbn.jax import batch_norm
    >>> @jax.jit
    ... def loss(x, weight, bias):
    ...     y, mean, var = batch_norm(x, weight, bias, comm=MPI.COMM_WORLD)
    ...     return (y**3).sum()
    >>> x = jax.random.normal(jax.random.key(0), (8, 3))
    >>> dx, dweight, dbias = jax.grad(loss, (0, 1, 2))(x, jax.numpy.ones(3), jax.numpy.zeros(3))
    >>> dx.shape
    (8, 3)
    """
    y, mean, var, _ = normalize(x, weight, bias, mask, eps, channel_axis, _of(comm))
    return y, mean, var


def normalize(
    x: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    mask: jax.Array | None,
    eps: float,
    channel_axis: int,
    comm: Communicator,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return y, mean, var and the number of values per channel over all ranks, as described in `batch_norm`.

    Collective if ``comm`` has several ranks.
    """
    x = jnp.asarray(x)
    working = _working(x)
    shape, axis = _check(working, channel_axis)
    weight, bias = (_parameter(each, name, shape[axis]) for each, name in ((weight, "weight"), (bias, "bias")))
    try:
        y, *moments = _batch_norm(working, weight, bias, mask, check_eps(eps), axis, comm)
    except jax.errors.JaxRuntimeError as error:  # outside of jit, from the callback, whose errors reach all ranks
        if (protocol := comm._distributed) is not None:
            mark_raised_by_all(error, protocol._identity, protocol._calls)
        raise
    mean, var, count = map(jax.lax.stop_gradient, moments)
    return y.astype(x.dtype), mean, var, count


def transform(function: Callable[..., Sequence[NDArray[Any]]], arrays: Sequence[jax.Array]) -> Sequence[jax.Array]:
    """Return the results of a function of NumPy arrays, one for each array, in the dtypes of the arrays."""
    shapes = tuple(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays)
    found: Sequence[jax.Array] = io_callback(
        lambda *arrays: function(*map(np.asarray, arrays)), shapes, *arrays, ordered=True
    )
    return found


def _working(array: jax.Array) -> jax.Array:
    """Return the array in float32 if it is of half precision; its gradient is converted back."""
    return array.astype(jnp.float32) if array.dtype in (jnp.float16, jnp.bfloat16) else array


def _check(x: jax.Array, channel_axis: int) -> tuple[tuple[int, ...], int]:
    """Return the shape of x and its channel axis, from 0; raise TypeError or ValueError as `functional.batch_norm`."""
    _, axis = check_input(np.broadcast_to(np.zeros((), x.dtype), x.shape), channel_axis)
    return x.shape, axis


def _parameter(parameter: Any, name: str, channels: int) -> jax.Array | None:
    if parameter is None:
        return None
    array = _working(jnp.asarray(parameter))
    if array.shape != (channels,):
        raise ValueError(f"{name} must have shape ({channels},), got {array.shape}")
    return array


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _batch_norm(
    x: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    mask: jax.Array | None,
    eps: float,
    axis: int,
    comm: Communicator,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    return _forward(x, weight, bias, mask, eps, axis, comm)[0]


def _forward(
    x: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    mask: jax.Array | None,
    eps: float,
    axis: int,
    comm: Communicator,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array, jax.Array], tuple[Any, ...]]:
    """Return y, mean, var and count, and what the backward needs. Collective when it runs."""
    channels = x.shape[axis]

    def compute(x: Any, weight: Any, bias: Any, mask: Any) -> tuple[NDArray[Any], ...]:
        arguments = np.asarray(x), _numpy(weight), _numpy(bias), eps, axis, _numpy(mask)
        y, moments, plan = plans.batch_norm(*arguments, "exact", None, False, None, None, comm._distributed, _NAME)
        state, *numbers = plan.state
        return (
            y,
            moments.mean.astype(dtype),
            moments.var.astype(dtype),
            state.view(np.uint32),
            np.array(numbers, np.int32),
        )

    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    shapes = (
        jax.ShapeDtypeStruct(x.shape, x.dtype),
        jax.ShapeDtypeStruct((channels,), dtype),
        jax.ShapeDtypeStruct((channels,), dtype),
        jax.ShapeDtypeStruct((5, 2 * channels), np.uint32),  # float64, of which JAX may have none
        jax.ShapeDtypeStruct((2,), np.int32),
    )
    y, mean, var, state, numbers = io_callback(compute, shapes, x, weight, bias, mask, ordered=True)
    return (y, mean, var, numbers[0]), (x, weight, bias, mask, state, numbers)


def _backward(
    eps: float, axis: int, comm: Communicator, saved: tuple[Any, ...], gradients: tuple[jax.Array, ...]
) -> tuple[Any, ...]:
    """Return dx, dweight, dbias, and None for the mask. Collective when it runs."""
    x, weight, bias, mask, state, numbers = saved

    def differentiate(x: Any, weight: Any, bias: Any, mask: Any, state: Any, numbers: Any, dy: Any) -> tuple[Any, ...]:
        moments = np.asarray(state).view(np.float64), *np.asarray(numbers).tolist()
        arguments = np.asarray(x), _numpy(weight), _numpy(bias), eps, axis, _numpy(mask)
        plan = plans.batch_norm_gradient(*arguments, "exact", moments, comm._distributed, _NAME)
        return tuple(plan(np.asarray(dy)))

    shapes = tuple(None if each is None else jax.ShapeDtypeStruct(each.shape, each.dtype) for each in (x, weight, bias))
    found: tuple[Any, ...] = io_callback(
        differentiate, shapes, x, weight, bias, mask, state, numbers, gradients[0], ordered=True
    )
    return *found, None


_NAME = "syncbn.jax.batch_norm"

_batch_norm.defvjp(_forward, _backward)


def _numpy(array: Any) -> NDArray[Any] | None:
    return None if array is None else np.asarray(array)
