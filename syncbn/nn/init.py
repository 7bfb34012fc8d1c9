"""Initializers of weights: He and Glorot, normal and uniform."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike

from syncbn._core.checks import shown
from syncbn.layers.parameter import Parameter, floating_dtype
from syncbn.pitfalls import see
from syncbn.typing import FloatArray

FunctionT = TypeVar("FunctionT", bound=Callable[..., FloatArray])


class Initializer(Protocol):
    """A function that draws initial weights, such as `he_normal`: ``init(shape, rng, dtype)`` returns an array.

    See Also
    --------
    syncbn.nn.he_normal : An initializer.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> def ones(shape, rng, dtype=np.float32):
    ...     return np.ones(shape, dtype)
    >>> nn.Dense(2, 1, init=ones).weight.data
    array([[1., 1.]], dtype=float32)
    """

    def __call__(self, shape: Sequence[int], rng: np.random.Generator, dtype: DTypeLike) -> FloatArray:
        """Return random weights of this shape and dtype."""


def draw(init: Initializer, shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike) -> Parameter:
    """Return a parameter with initial values, or raise TypeError or ValueError unless ``init`` is an `Initializer`."""
    if not callable(init):
        raise TypeError(f"{_INIT}, got {shown(init)}{see('initial-weights')}")
    dtype = floating_dtype(dtype)
    try:
        values = init(shape, rng, dtype)
    except TypeError as error:
        raise TypeError(f"{_INIT}, but {shown(init)} raised: {error}{see('initial-weights')}") from error
    if np.shape(values) != shape:
        raise ValueError(f"{_INIT}, here of shape {shape}, but it returned {shown(values)}{see('initial-weights')}")
    return Parameter(values)


_INIT = "init must be a function of (shape, rng, dtype) that returns an array, such as nn.he_normal itself"


def _initializer(function: FunctionT) -> FunctionT:
    """Decorate an initializer so that a call with other arguments, such as none, raises an error that describes it."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> FloatArray:
        try:
            signature.bind(*arguments, **options)
        except TypeError as error:
            raise TypeError(
                f"{function.__name__}: {error}. {_INIT}: a layer calls it{see('initial-weights')}"
            ) from None
        return function(*arguments, **options)

    return cast(FunctionT, call)


@_initializer
def he_normal(shape: Sequence[int], rng: np.random.Generator, dtype: DTypeLike = np.float32) -> FloatArray:
    """Draw from N(0, 2/fan_in), which preserves the variance of activations through ReLU layers.

    Parameters
    ----------
    shape : (out, in) or (O, I, KH, KW)
        Shape of the weights; fan_in is in or I·KH·KW, fan_out is out or O·KH·KW.
    rng : numpy.random.Generator
    dtype : dtype
        Values are drawn in float64 and rounded, so a seed gives the same numbers for both dtypes.

    Raises
    ------
    ValueError
        ``shape`` has fewer than 2 axes or an axis of size 0.

    See Also
    --------
    syncbn.nn.he_uniform : Uniform instead of normal.
    syncbn.nn.glorot_normal : For layers without ReLU.

    References
    ----------
    He, Zhang, Ren & Sun 2015, Delving deep into rectifiers, equation 10.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> weight = nn.he_normal((64, 784), np.random.default_rng(0))
    >>> weight.shape, weight.dtype.name
    ((64, 784), 'float32')
    """
    fan_in, _ = _fans(shape)
    return _normal(shape, math.sqrt(2.0 / fan_in), rng, dtype)


@_initializer
def he_uniform(shape: Sequence[int], rng: np.random.Generator, dtype: DTypeLike = np.float32) -> FloatArray:
    """Draw from U(−a, a) with a = √(6/fan_in), whose variance is that of `he_normal`; arguments as `he_normal`.

    See Also
    --------
    syncbn.nn.he_normal : Normal instead of uniform.
    syncbn.nn.glorot_uniform : For layers without ReLU.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> weight = nn.he_uniform((64, 784), np.random.default_rng(0))
    >>> weight.shape, weight.dtype.name
    ((64, 784), 'float32')
    """
    fan_in, _ = _fans(shape)
    return _uniform(shape, math.sqrt(6.0 / fan_in), rng, dtype)


@_initializer
def glorot_normal(shape: Sequence[int], rng: np.random.Generator, dtype: DTypeLike = np.float32) -> FloatArray:
    """Draw from N(0, 2/(fan_in + fan_out)) (Glorot & Bengio 2010); arguments as `he_normal`.

    See Also
    --------
    syncbn.nn.glorot_uniform : Uniform instead of normal.
    syncbn.nn.he_normal : For layers with ReLU.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> weight = nn.glorot_normal((64, 784), np.random.default_rng(0))
    >>> weight.shape, weight.dtype.name
    ((64, 784), 'float32')
    """
    return _normal(shape, math.sqrt(2.0 / sum(_fans(shape))), rng, dtype)


@_initializer
def glorot_uniform(shape: Sequence[int], rng: np.random.Generator, dtype: DTypeLike = np.float32) -> FloatArray:
    """Draw from U(−a, a), a = √(6/(fan_in + fan_out)) (Glorot & Bengio 2010, equation 16); arguments as `he_normal`.

    See Also
    --------
    syncbn.nn.glorot_normal : Normal instead of uniform.
    syncbn.nn.he_uniform : For layers with ReLU.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> weight = nn.glorot_uniform((64, 784), np.random.default_rng(0))
    >>> weight.shape, weight.dtype.name
    ((64, 784), 'float32')
    """
    return _uniform(shape, math.sqrt(6.0 / sum(_fans(shape))), rng, dtype)


def _fans(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"initial weights need a shape (out, in) or (O, I, KH, KW) without zeros, got {tuple(shape)}")
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


@np.errstate(all="ignore")  # small values may underflow in float16
def _normal(shape: Sequence[int], std: float, rng: np.random.Generator, dtype: DTypeLike) -> FloatArray:
    return np.asarray(std * rng.standard_normal(tuple(shape)), dtype)


@np.errstate(all="ignore")  # small values may underflow in float16
def _uniform(shape: Sequence[int], bound: float, rng: np.random.Generator, dtype: DTypeLike) -> FloatArray:
    return np.asarray(rng.uniform(-bound, bound, tuple(shape)), dtype)
