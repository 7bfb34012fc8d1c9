"""The base class of all layers: parameters, buffers, training and evaluation mode, ``state_dict``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from numpy.typing import ArrayLike, NDArray

from syncbn.layers._state import check_state
from syncbn.layers.parameter import Parameter
from syncbn.typing import Backward, FloatArray


class Module:
    """A layer: ``y, backward = layer(x)``, then ``dx = backward(dy)``.

    A subclass overrides `forward`. Its parameters and the modules inside it are its attributes of type
    `Parameter` and `Module`, in the order in which they were set. Arrays that are not trained, such as running
    statistics, are registered by `register_buffer`. Names are those of PyTorch: the names of attributes, joined by
    dots through nested modules.
    """

    def __init__(self) -> None:
        self.training = True
        self._buffer_names: list[str] = []

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y and its backward, a function that returns dL/dx given dL/dy."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return the result of `forward`."""
        return self.forward(x)

    def register_buffer(self, name: str, value: NDArray[Any] | None) -> None:
        """Set the attribute ``name`` and include it in ``state_dict``, unless ``value`` is None."""
        setattr(self, name, value)
        self._buffer_names.append(name)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the name and the module of each module directly inside this one."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield the dotted name and the module of this module, named ``prefix``, and of all modules inside it."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(_join(prefix, name))

    def own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield the name and the parameter of each parameter of this module, without the modules inside it."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield name, value

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield the dotted name and the parameter of each parameter of this module and all inside it, depth first."""
        for name, parameter in self.own_parameters():
            yield _join(prefix, name), parameter
        for name, child in self.named_children():
            yield from child.named_parameters(_join(prefix, name))

    def parameters(self) -> list[Parameter]:
        """Return all parameters, in the order of `named_parameters`."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield the dotted name and the array of each buffer, such as the running statistics."""
        for name in self._buffer_names:
            value = getattr(self, name)
            if value is not None:
                yield _join(prefix, name), value
        for name, child in self.named_children():
            yield from child.named_buffers(_join(prefix, name))

    def zero_grad(self) -> None:
        """Set the gradients of all parameters to None."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> Module:
        """Set this module and all modules inside it to training mode, or to evaluation mode if ``mode`` is False."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Set this module and all modules inside it to evaluation mode, which never communicates."""
        return self.train(False)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Return a context in evaluation mode, after which every module returns to its mode."""
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

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy the values of a ``state_dict`` into this module. If it raises an error, no value has changed.

        Parameters
        ----------
        state : mapping of str to array_like
            Values that ``numpy.asarray`` accepts, such as PyTorch CPU tensors.

        Raises
        ------
        ValueError
            Keys are missing or unexpected, or arrays have another shape. The message has their names.
        TypeError
            A value is not a real number, or not an integer where a count is expected.
        """
        targets = dict(self._named_arrays())
        for name, value in check_state(type(self).__name__, targets, state).items():
            targets[name][...] = value

    def _named_arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for name, parameter in self.named_parameters():
            yield name, parameter.data
        yield from self.named_buffers()


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
