"""A trainable array and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn._core import debug
from syncbn._core.checks import check_flag, check_unmasked, hint, shown
from syncbn.other_libraries import ATTRIBUTES, unknown
from syncbn.pitfalls import see
from syncbn.typing import FloatArray


class Parameter:
    """A trainable array and its gradient.

    Parameters
    ----------
    data : ndarray of floats
        Initial value. It is not copied; optimizers write to it.
    decay : bool
        Whether weight decay applies. It is False for γ and β of normalizers.

    Attributes
    ----------
    data : ndarray
        Value.
    grad : ndarray or None
        Sum of the gradients of all backward passes since the last ``zero_grad``; None before the first one.
    replicated : bool
        Whether all ranks have copies of the parameter: those of a `SyncBatchNorm` of several ranks, and all after
        `syncbn.train.broadcast_parameters`. Then an optimizer accepts only gradients that are ``summed``. A program
        that sums gradients itself sets it to False.
    summed : bool
        Whether ``grad`` is the sum over all ranks, by `syncbn.train.sum_gradients`. The next backward raises
        RuntimeError, because it would add the gradient of a single rank to it: call ``zero_grad`` first.
    version : int
        Number of changes of ``data`` by optimizers and by ``load_state_dict``. A backward raises RuntimeError if the
        parameters of its layer have changed since the forward.

    Raises
    ------
    TypeError, ValueError
        ``data`` is not an array of floats, or a gradient is not an array of its shape.

    See Also
    --------
    syncbn.Module : The layers that have parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import Parameter
    >>> parameter = Parameter(np.zeros(2, np.float32))
    >>> parameter.add_grad(np.ones(2, np.float32))
    >>> parameter.add_grad(np.ones(2, np.float32))
    >>> parameter.grad
    array([2., 2.], dtype=float32)
    """

    __slots__ = ("_data", "_grad", "decay", "replicated", "summed", "version")

    def __init__(self, data: FloatArray, *, decay: bool = True) -> None:
        self.data = data
        self.decay: bool = check_flag("decay", decay)
        self.replicated: bool = False
        self.grad = None
        self.version: int = 0

    @property
    def data(self) -> FloatArray:
        """Value."""
        return self._data

    @data.setter
    def data(self, value: FloatArray) -> None:
        check_unmasked(value, "data")
        if not isinstance(value, np.ndarray):
            raise TypeError(f"data must be a NumPy array, got {type(value).__name__}{hint(value)}")
        if value.dtype.kind not in "fV":  # V: other floating types, those of ml_dtypes
            raise TypeError(
                f"data must have a floating dtype, got {value.dtype}: convert it, as by astype(numpy.float32)"
                f"{see('dtypes')}"
            )
        self._data = value

    @property
    def grad(self) -> FloatArray | None:
        """Gradient; None before the first backward."""
        return self._grad

    @grad.setter
    def grad(self, value: FloatArray | None) -> None:
        self._grad = None if value is None else _checked_gradient(value, self.data)
        if value is None:
            self.summed: bool = False

    def add_grad(self, grad: NDArray[np.floating]) -> None:
        """Add an array of the parameter's shape to the gradient, in the parameter's dtype."""
        data, total = self._data, self._grad
        grad = _checked_gradient(grad, data)
        if self.summed:
            raise RuntimeError(
                "a backward would add to the gradients of the last step, which are summed over ranks: "
                "call model.zero_grad() after each step. (optimizer.zero_grad() leaves out the parameters that the "
                "optimizer does not have: build it again after a layer was replaced or added)"
            )
        if total is None and grad.dtype == data.dtype:
            self._grad = grad.copy()  # the caller may change its own array
            return
        with np.errstate(all="ignore"):  # infinities and NaN are visible in the sum
            self._grad = grad.astype(data.dtype) if total is None else np.add(total, grad, out=total)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return ``data``, so that NumPy converts a parameter to its array."""
        return np.array(self.data, dtype, copy=copy)

    if not TYPE_CHECKING:  # a type checker reports them by itself

        def __getattr__(self, name: str) -> NoReturn:
            """Raise AttributeError, which says where the attributes of an array are."""
            advice = {name: f"use those of its array, parameter.data{see('values-of-parameters')}"}
            of_an_array = hasattr(np.ndarray, name) or name in _OF_A_TENSOR
            raise AttributeError(
                unknown("'Parameter' object", name, advice if of_an_array else ATTRIBUTES), name=name, obj=self
            )

        def _refuse(self, *_: object) -> NoReturn:
            """Raise TypeError: operations are those of the array."""
            raise TypeError(
                "a Parameter is not an array: use its values, parameter.data, as in layer.weight.data[...] = values or "
                f"2 * layer.weight.data{see('values-of-parameters')}"
            )

        __getitem__ = __setitem__ = __neg__ = _refuse
        __add__ = __sub__ = __mul__ = __truediv__ = __matmul__ = __pow__ = _refuse
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rmatmul__ = __rpow__ = _refuse

    def __repr__(self) -> str:
        return f"Parameter(shape={self.data.shape}, dtype={self.data.dtype}, decay={self.decay})"


_OF_A_TENSOR = ("numpy", "detach", "clone")
"""Methods of PyTorch's tensors that make an array or a copy of it."""


def _checked_gradient(grad: NDArray[np.floating], data: FloatArray) -> NDArray[np.floating]:
    """Return a gradient of a parameter with these values, or raise unless it is an array of their shape."""
    if type(grad) is np.ndarray and grad.shape == data.shape:
        return grad
    check_unmasked(grad, "gradient")
    if not isinstance(grad, (np.ndarray, np.generic)):
        raise TypeError(
            f"a gradient must be an array of the parameter's shape {data.shape}, got {shown(grad)}{hint(grad)}"
        )
    if grad.shape != data.shape:
        raise ValueError(f"gradient of shape {grad.shape} for a parameter of shape {data.shape}")
    return np.asarray(grad)


def unchanged(
    layer: str, weight: Parameter | None, bias: Parameter | None, x: FloatArray | None = None
) -> Callable[[], None]:
    """Return a function that raises RuntimeError if the parameters of a layer have changed since this call.

    Parameters
    ----------
    layer : str
        Name of the layer, for the error.
    weight, bias : Parameter or None
    x : ndarray, optional
        Input that must not change either, nor the values of the weight: checked only with ``SYNCBN_DEBUG=1``.
    """
    version = _version(weight) + _version(bias)  # versions only grow, so their sum changes with each of them
    checksums = None
    if debug.ENABLED:
        values = None if x is None or weight is None else weight.data  # normalizers copy theirs
        checksums = debug.Checksums(x=x, weight=values)

    def check() -> None:
        if _version(weight) + _version(bias) != version:
            raise RuntimeError(
                f"the parameters of {layer} have changed since the forward (an optimizer step or load_state_dict): "
                f"call backward first, or forward again{see('arrays-that-must-not-change')}"
            )
        if checksums is not None:
            checksums.check()

    return check


def _version(parameter: Parameter | None) -> int:
    return 0 if parameter is None else parameter.version


def floating_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return ``dtype`` in native byte order, or raise TypeError unless it is float16, float32 or float64."""
    if dtype is None:  # float64 in NumPy, and the default in PyTorch
        raise TypeError("dtype must be float16, float32 or float64, got None: leave it out for the default")
    try:
        found: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        raise TypeError(
            f"dtype must be float16, float32 or float64 of NumPy, got {dtype!r} (there are no devices: all arrays "
            "are in the memory of the CPU)"
        ) from None
    if found.name not in ("float16", "float32", "float64"):
        raise TypeError(f"dtype must be float16, float32 or float64, got {found}")
    return found
