"""Arrays of other libraries, and lists of numbers for parameters: converted to NumPy, and results in kind."""

from __future__ import annotations

import functools
import inspect
import sys
from array import array
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from syncbn._core.plans import conversion_if_needed
from syncbn.comm import as_communicator
from syncbn.pitfalls import see

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_BUFFERS = (memoryview, array)
_PARAMETERS = ("weight", "bias", "running_mean", "running_var", "g")


def in_kind(function: FunctionT) -> FunctionT:
    """Return a function that takes arrays of other libraries too, and returns arrays of the library of the first one.

    The arrays must be in the memory of the CPU, which is shared where possible. Those of PyTorch, JAX and other
    libraries with the array API come back as theirs; for a buffer, such as a memoryview, results are memoryviews; for
    any other object with ``__array__`` they are NumPy arrays. The backward takes and returns the same. Parameters can
    be lists.
    """
    names = list(inspect.signature(function).parameters)

    def convert(arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        restore = _restorer(arguments[0] if arguments else options.get(names[0]))
        numpy_arguments = [to_numpy(each, name in _PARAMETERS) for name, each in zip(names, arguments, strict=False)]
        numpy_options = {name: to_numpy(each, name in _PARAMETERS) for name, each in options.items() if name != "comm"}
        comm = {"comm": options["comm"]} if "comm" in options else {}
        y, *moments, backward = function(*numpy_arguments, *arguments[len(names) :], **numpy_options, **comm)
        if restore is None:
            return y, *moments, backward
        out = options.get("out")
        results = _backward_in_kind(backward, restore, options.get("comm"), options.get("name", ""))
        return restore(y) if out is None else out, *moments, results

    return cast(FunctionT, functools.wraps(function)(conversion_if_needed(function, convert)))


def _backward_in_kind(
    backward: Callable[..., Any], restore: Callable[[Any], Any], comm: Any, name: str
) -> Callable[..., Any]:
    """Return a backward for arrays of other libraries. Collective if ``backward`` is, and so are its errors."""
    protocol = as_communicator(comm)._protocol

    @functools.wraps(backward)
    def call(dy: Any = None, **options: Any) -> Any:
        with protocol.collective_errors(protocol.unknown_signature("backward", name)):
            dy, out = to_numpy(dy), options.pop("out", None)
            if out is not None:
                options["out"] = to_numpy(out)
        found = backward(dy, **options)
        first, *others = found if isinstance(found, tuple) else (found,)
        results = (
            restore(first) if out is None else out,
            *(None if each is None else restore(each) for each in others),
        )
        return results if isinstance(found, tuple) else results[0]

    return call


def to_numpy(value: Any, is_parameter: bool = False) -> Any:
    """Return an array of another library as one of NumPy, which shares its memory if possible; else the value itself.

    Raises
    ------
    TypeError
        The array is not in the memory of the CPU, or takes part in automatic differentiation, which ends here.
    """
    if value is None or isinstance(value, (np.ndarray, np.generic, float, int, str, tuple)):
        return value
    library = _library(value)
    if library == "torch":
        _check_torch(value)
        return value.numpy()
    if library == "jax":
        _check_jax(value)
        return np.asarray(value)
    if isinstance(value, _BUFFERS):
        return np.asarray(value)
    if hasattr(value, "__dlpack_device__"):
        if value.__dlpack_device__()[0] != 1:  # kDLCPU
            raise TypeError(f"{_name(value)} is not in the memory of the CPU: copy it there{_ENTRY}")
        return np.from_dlpack(value)
    if hasattr(value, "__array__") or (is_parameter and isinstance(value, list)):
        return np.asarray(value)
    return value


_ENTRY = see("arrays-of-other-libraries")


def _restorer(value: Any) -> Callable[[Any], Any] | None:
    """Return the function that makes NumPy arrays what ``value`` is; None if that is a NumPy array."""
    if isinstance(value, (np.ndarray, np.generic)):
        return None
    library = _library(value)
    if library == "torch":
        return cast(Callable[[Any], Any], sys.modules["torch"].from_numpy)
    if library == "jax":
        return cast(Callable[[Any], Any], sys.modules["jax"].numpy.asarray)
    if isinstance(value, _BUFFERS):
        return memoryview
    if hasattr(value, "__array_namespace__") and hasattr(value, "__dlpack__"):
        return cast(Callable[[Any], Any], value.__array_namespace__().from_dlpack)
    return np.asarray


def _library(value: Any) -> str:
    """Return "torch" or "jax" for a tensor or an array of these, else ""."""
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and isinstance(value, getattr(torch, "Tensor", ())):
        return "torch"
    if jax is not None and isinstance(value, getattr(jax, "Array", ())):
        return "jax"
    return ""


def _check_torch(tensor: Any) -> None:
    if tensor.requires_grad:
        raise TypeError(
            "a tensor of PyTorch that requires a gradient was passed to syncbn.functional, which autograd does not "
            f"see: call its .detach(), or use syncbn.torch{_ENTRY}"
        )
    if tensor.device.type != "cpu":
        raise TypeError(f"a tensor of PyTorch is on {tensor.device}: call its .cpu(){_ENTRY}")
    if str(tensor.dtype) == "torch.bfloat16":
        raise TypeError(f"a tensor of PyTorch has dtype bfloat16, which NumPy has not: call its .float(){_ENTRY}")


def _check_jax(array: Any) -> None:
    if isinstance(array, sys.modules["jax"].core.Tracer):
        raise TypeError(
            "a traced array of JAX was passed to syncbn.functional, which jit and grad cannot see: use "
            f"syncbn.jax.batch_norm{_ENTRY}"
        )


def _name(value: Any) -> str:
    return f"an array of the type {type(value).__module__}.{type(value).__qualname__}"
