"""The base class of all layers: parameters, buffers, training and evaluation mode, ``state_dict``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import isfunction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from syncbn._core.checks import check_flag, hint, shown
from syncbn.layers._hooks import ForwardHook, HookHandle, call_hook
from syncbn.layers._losses import forget_losses
from syncbn.layers._state import check_state, with_counters
from syncbn.layers._tree import find, join, unique
from syncbn.layers.parameter import Parameter, floating_dtype
from syncbn.other_libraries import ATTRIBUTES, check_assignment, unknown
from syncbn.pitfalls import see
from syncbn.typing import Backward, FloatArray

if TYPE_CHECKING:
    from typing_extensions import Self


class Module:
    """A layer: ``y, backward = layer(x)``, then ``dx = backward(dy)``.

    A subclass overrides `forward`. Its parameters and submodules are its attributes of type `Parameter` and `Module`,
    in the order in which they were set, including those in lists, tuples and dictionaries. Arrays that are not trained,
    such as running statistics, are registered by `register_buffer`. Names are those of PyTorch: the names of
    attributes, joined by dots through nested modules; items are named by position or key. A module, parameter or buffer
    that is found twice is yielded once, under its first name, but ``state_dict`` has all names.

    See Also
    --------
    syncbn.nn.Sequential : Layers one after the other.
    syncbn.Parameter : Values that are trained.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import Module, Parameter
    >>> class Scale(Module):
    ...     def __init__(self, features):
    ...         super().__init__()
    ...         self.weight = Parameter(np.ones(features, np.float32))
    ...
    ...     def forward(self, x):
    ...         def backward(dy):
    ...             self.weight.add_grad((dy * x).sum(axis=0))
    ...             return dy * self.weight.data
    ...
    ...         return x * self.weight.data, backward
    >>> layer = Scale(2)
    >>> y, backward = layer(np.array([[1.0, 2.0]], np.float32))
    >>> dx = backward(np.ones_like(y))
    >>> layer.weight.grad
    array([1., 2.], dtype=float32)
    >>> list(layer.state_dict())
    ['weight']
    """

    training: bool

    def __init__(self) -> None:
        self.training = True
        self._buffer_names: list[str] = []
        self._forward_hooks: dict[int, ForwardHook] = {}
        self._transient_names: list[str] = []

    def __setattr__(self, name: str, value: Any) -> None:
        own = vars(self)
        if isinstance(own.get(name), Parameter) and not (value is None or isinstance(value, Parameter)):
            raise TypeError(
                f"{type(self).__name__}.{name} is a parameter and cannot become {type(value).__name__}: set its values "
                f"by {name}.data[...] = values, or assign a Parameter{see('values-of-parameters')}"
            )
        if name in own.get("_buffer_names", ()) and not _may_replace(own[name], value):
            raise TypeError(
                f"{type(self).__name__}.{name} is a buffer, an array of shape {own[name].shape}, and cannot become "
                f"{shown(value)}: set its values by {name}[...] = values"
            )
        if name == "training":
            check_flag(name, value)
        if name not in own:  # so an assignment in each step takes no time
            self._check_new(name, value)
        super().__setattr__(name, value)

    def _check_new(self, name: str, value: Any) -> None:
        """Raise TypeError for a new attribute in place of a method, AttributeError for one without an effect."""
        if isfunction(getattr(type(self), name, None)) and not callable(value):
            kind = type(self).__name__
            raise TypeError(f"{name} is a method of {kind}: call {name}(...) instead of assigning to it")
        if name in _WITHOUT_EFFECT and not hasattr(type(self), name):
            raise AttributeError(unknown(f"{type(self).__name__!r} object", name, ATTRIBUTES), name=name, obj=self)
        if not isinstance(value, Parameter):  # which has an effect, in parameters()
            check_assignment(self, name, value, ATTRIBUTES)

    if not TYPE_CHECKING:  # a type checker reports unknown names by itself

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError, which says what there is instead of a well-known name of Keras or PyTorch."""
            if isinstance(getattr(type(self), name, None), property):  # it has raised an AttributeError itself
                return object.__getattribute__(self, name)
            if name in _OWN and "_forward_hooks" not in vars(self):
                kind = type(self).__name__
                raise AttributeError(f"call super().__init__() first in the __init__ of {kind}", name=name, obj=self)
            raise AttributeError(unknown(f"{type(self).__name__!r} object", name, ATTRIBUTES), name=name, obj=self)

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y and its backward, a function that returns dL/dx given dL/dy."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def _call(self, *arguments: Any, **options: Any) -> tuple[FloatArray, Backward]:
        """Return the result of `forward`, after calling the forward hooks with it.

        Raises
        ------
        TypeError
            The result of `forward`, or of a hook, is not a pair (y, backward).
        """
        result = self.forward(*arguments, **options)
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            raise TypeError(
                f"{type(self).__name__}.forward must return (y, backward), where dx = backward(dy), got "
                f"{shown(result)}{see('layers-return-two-values')}"
            )
        for hook in list(self._forward_hooks.values()):
            result = call_hook(hook, self, arguments, result)
        return result

    # An assignment without a type, so that a subclass can give its calls the type of its forward: `__call__ = forward`
    # under `if TYPE_CHECKING`.
    __call__ = _call

    def register_forward_hook(self, hook: ForwardHook) -> HookHandle:
        """Register a function that every call of this module calls after `forward`, in the order of registration.

        Parameters
        ----------
        hook : callable
            ``hook(module, arguments, result)``, with the tuple of positional arguments, and ``(y, backward)``. If it
            returns something else than None, that replaces the result: a hook may wrap the backward.

        Returns
        -------
        HookHandle
            Its ``remove()`` removes the hook, as does the end of a ``with`` block.

        Examples
        --------
        >>> with layer.register_forward_hook(lambda module, arguments, result: print(result[0].shape)):
        ...     y, backward = layer(x)
        """
        if not callable(hook):
            raise TypeError(f"hook must be a function of (module, arguments, result), got {shown(hook)}")
        return HookHandle(self._forward_hooks, hook)

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows, such as ``"64, eps=1e-05"``."""
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        extra = self.extra_repr()
        inside = "\n  ".join(["", *filter(None, [extra]), *children]) + "\n" if children else extra
        return f"{type(self).__name__}({inside})"

    def register_buffer(self, name: str, value: NDArray[Any] | None, persistent: bool = True) -> None:
        """Set the attribute ``name`` and include it in the buffers, unless ``value`` is None.

        If it is ``persistent``, it is part of ``state_dict``. All buffers are part of a trainer's checkpoints.
        """
        persistent = check_flag("persistent", persistent)
        if not (value is None or isinstance(value, np.ndarray)):
            raise TypeError(f"a buffer must be a NumPy array or None, got {shown(value)}{hint(value)}")
        setattr(self, name, value)
        self._buffer_names.append(name)
        if not persistent:
            self._transient_names.append(name)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the name and the module of each module directly inside this one."""
        yield from find(Module, vars(self))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield the dotted name and the module of this module, named ``prefix``, and of all modules inside it."""
        yield from unique(self._all_modules(prefix))

    def children(self) -> Iterator[Module]:
        """Yield the modules directly inside this one, each once."""
        yield from (child for _, child in unique(self.named_children()))

    def modules(self) -> Iterator[Module]:
        """Yield this module and all modules inside it, each once, in the order of `named_modules`."""
        yield from (module for _, module in self.named_modules())

    def apply(self, function: Callable[[Module], object]) -> Self:
        """Call ``function(module)`` for all modules inside this one, then for this one, as PyTorch does; return self.

        Examples
        --------
        >>> model.apply(lambda module: module.weight.data.fill(1) if isinstance(module, BatchNorm) else None)
        """
        if not callable(function):
            raise TypeError(f"function must be a function of a module, got {shown(function)}")
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def to(self, dtype: DTypeLike) -> Self:
        """Convert all parameters, their gradients and the floating buffers to a dtype, and return self.

        Call it before an optimizer is built, whose state has the old dtype.

        Parameters
        ----------
        dtype : dtype
            float16, float32 or float64. Values beyond its range become infinite.

        Examples
        --------
        >>> model = model.to(numpy.float64)
        """
        found = floating_dtype(dtype)
        with np.errstate(all="ignore"):
            for module in self.modules():
                for _, parameter in module.own_parameters():
                    parameter.data = parameter.data.astype(found)
                    parameter.version += 1
                    if parameter.grad is not None:
                        parameter.grad = parameter.grad.astype(found)
                for name in module._buffer_names:
                    buffer = getattr(module, name)
                    if buffer is not None and buffer.dtype.kind == "f":
                        setattr(module, name, buffer.astype(found))
        return self

    def own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield the name and the parameter of each parameter of this module, without the modules inside it."""
        yield from find(Parameter, vars(self))

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield the dotted name and the parameter of each parameter of this module and all inside it, depth first."""
        yield from unique(self._all_parameters(prefix))

    def parameters(self) -> Iterator[Parameter]:
        """Yield all parameters, in the order of `named_parameters`."""
        yield from (parameter for _, parameter in self.named_parameters())

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield the dotted name and the array of each buffer, such as the running statistics."""
        yield from unique(self._all_buffers(prefix))

    def buffers(self) -> Iterator[NDArray[Any]]:
        """Yield the array of each buffer, in the order of `named_buffers`."""
        yield from (buffer for _, buffer in self.named_buffers())

    def zero_grad(self) -> None:
        """Set the gradients of all parameters to None."""
        forget_losses()
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> Self:
        """Set this module to training mode, or to evaluation mode if ``mode`` is False, and all modules inside it.

        It calls ``train`` of the modules directly inside, so a module that overrides ``train`` can stay frozen.
        """
        self.training = check_flag("mode", mode)
        for _, child in self.named_children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """Set this module and all modules inside it to evaluation mode, which never communicates."""
        return self.train(False)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Set evaluation mode in a ``with`` block, and restore the mode of every module at its end."""
        modes = [(module, module.training) for _, module in self.named_modules()]
        self.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return copies of all parameters and buffers, by PyTorch's names."""
        return {name: array.copy() for name, array in self._named_arrays()}

    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> tuple[list[str], list[str]]:
        """Copy the values of a ``state_dict`` into this module, and return the missing and the unexpected keys.

        If it raises an error, no value has changed.

        Parameters
        ----------
        state : mapping of str to array_like
            Values that ``numpy.asarray`` accepts, such as PyTorch CPU tensors. A missing ``num_batches_tracked`` is
            set to 0 if the running statistics are present, as in a ``state_dict`` from before PyTorch 0.4.1.
        strict : bool
            Whether a missing or unexpected key is an error.

        Raises
        ------
        ValueError
            Keys are missing or unexpected, or arrays have another shape. The message has their names.
        TypeError
            A value is not a real number, or not an integer where a count is expected.
        """
        strict = check_flag("strict", strict)
        targets = dict(self._named_arrays())
        values, missing, unexpected = check_state(type(self).__name__, targets, with_counters(targets, state), strict)
        for name, value in values.items():
            targets[name][...] = value
        for parameter in self.parameters():
            parameter.version += 1
        return missing, unexpected

    def _all_modules(self, prefix: str) -> Iterator[tuple[str, Module]]:
        """Yield like `named_modules`, but yield a module that is found twice under both names."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child._all_modules(join(prefix, name))

    def _all_parameters(self, prefix: str) -> Iterator[tuple[str, Parameter]]:
        """Yield like `named_parameters`, but yield a parameter that is found twice under both names."""
        for name, parameter in self.own_parameters():
            yield join(prefix, name), parameter
        for name, child in self.named_children():
            yield from child._all_parameters(join(prefix, name))

    def _all_buffers(self, prefix: str, transient: bool = True) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield like `named_buffers`, but yield a buffer that is found twice under both names.

        Buffers that are not persistent are yielded only if ``transient`` is True.
        """
        for name in self._buffer_names:
            value = getattr(self, name)
            if value is not None and (transient or name not in self._transient_names):
                yield join(prefix, name), value
        for name, child in self.named_children():
            yield from child._all_buffers(join(prefix, name), transient)

    def _named_arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for name, parameter in self._all_parameters(""):
            yield name, parameter.data
        yield from self._all_buffers("", transient=False)


def _may_replace(buffer: NDArray[Any] | None, value: object) -> bool:
    """Return whether a value may be assigned to the attribute of a buffer: None, or an array of its shape."""
    return buffer is None or value is None or (isinstance(value, np.ndarray) and value.shape == buffer.shape)


_WITHOUT_EFFECT = ("trainable", "requires_grad")
"""Attributes of other libraries' modules whose assignment would have no effect."""

_OWN = frozenset({"training", "_buffer_names", "_forward_hooks", "_transient_names"})
"""Attributes that the constructor of `Module` sets."""
