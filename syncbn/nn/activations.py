"""Activations: functions of each value."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from syncbn.layers.module import Module
from syncbn.nn._checks import check_dtype, check_grad
from syncbn.nn._select import select
from syncbn.typing import BackwardOf, FloatArray, ScalarT


class Activation(Module):
    """Base of the functions of each value, for any shape."""

    @np.errstate(all="ignore")  # NaN of the result say it
    def forward(self, x: NDArray[ScalarT]) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Return y, in x's dtype and memory order, and its backward, until which y must not change.

        Raises
        ------
        TypeError
            ``x`` isn't float32 or float64.
        """
        name = type(self).__name__
        check_dtype(name, x)
        y, gradient = self._apply(x)
        shape, dtype = x.shape, x.dtype

        def backward(dy: FloatArray) -> NDArray[Any]:
            """Return dL/dx, given dL/dy."""
            with np.errstate(all="ignore"):  # a decorator would take longer, in each forward
                return gradient(check_grad(name, dy, shape, dtype))

        return y, backward

    if TYPE_CHECKING:
        __call__ = forward

    @abstractmethod
    def _apply(self, x: FloatArray) -> tuple[NDArray[Any], Callable[[FloatArray], NDArray[Any]]]:
        """Return y, and the function from dy to dx."""


class ReLU(Activation):
    """Rectified linear unit for any shape: y = max(x, 0), with derivative 0 at 0; NaN gives NaN.

    See Also
    --------
    syncbn.nn.Sigmoid : Logistic function.
    syncbn.nn.Tanh : Hyperbolic tangent.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> y, backward = nn.ReLU()(np.array([[-1.0, 2.0]]))
    >>> y
    array([[0., 2.]])
    >>> backward(np.ones_like(y)).round(3)
    array([[0., 1.]])
    """

    def __init__(self) -> None:  # so that Python's error of an unexpected argument names this class
        super().__init__()

    def _apply(self, x: FloatArray) -> tuple[NDArray[Any], Callable[[FloatArray], NDArray[Any]]]:
        positive = x > 0
        return np.maximum(x, 0), lambda dy: select(dy, positive)


class Sigmoid(Activation):
    """Logistic sigmoid for any shape: y = 1/(1 + exp(−x)), with derivative y·(1 − y).

    See Also
    --------
    syncbn.nn.ReLU : Rectifier.
    syncbn.nn.Tanh : Hyperbolic tangent.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> y, backward = nn.Sigmoid()(np.array([[-1.0, 2.0]]))
    >>> y.round(3)
    array([[0.269, 0.881]])
    >>> backward(np.ones_like(y)).round(3)
    array([[0.197, 0.105]])
    """

    def __init__(self) -> None:  # so that Python's error of an unexpected argument names this class
        super().__init__()

    def _apply(self, x: FloatArray) -> tuple[NDArray[Any], Callable[[FloatArray], NDArray[Any]]]:
        small = np.exp(-np.abs(x))  # at most 1, so it cannot overflow
        y = np.where(x < 0, small, 1).astype(x.dtype, copy=False)
        y /= 1 + small
        return y, lambda dy: dy * y * (1 - y)


class Tanh(Activation):
    """Hyperbolic tangent for any shape: y = tanh(x), with derivative 1 − y².

    See Also
    --------
    syncbn.nn.ReLU : Rectifier.
    syncbn.nn.Sigmoid : Logistic function.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> y, backward = nn.Tanh()(np.array([[-1.0, 2.0]]))
    >>> y.round(3)
    array([[-0.762,  0.964]])
    >>> backward(np.ones_like(y)).round(3)
    array([[0.42 , 0.071]])
    """

    def __init__(self) -> None:  # so that Python's error of an unexpected argument names this class
        super().__init__()

    def _apply(self, x: FloatArray) -> tuple[NDArray[Any], Callable[[FloatArray], NDArray[Any]]]:
        y = np.tanh(x)
        return y, lambda dy: dy * (1 - y * y)
