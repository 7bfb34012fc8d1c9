"""The base of all layers: parameters, buffers, modes and ``state_dict``."""

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

    A subclass sets `Parameter` and `Module` attributes (found by looking at its attributes, in
    the order they were set), names its non-trained arrays with `register_buffer`, and overrides
    `forward`. Names follow PyTorch: an attribute's name, joined by dots through nested modules.
    """

    def __init__(self) -> None:
        self.training = True
        self._buffer_names: list[str] = []

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return ``y`` and the closure that turns dL/dy into dL/dx."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Call `forward`."""
        return self.forward(x)

    def register_buffer(self, name: str, value: NDArray[Any] | None) -> None:
        """Keep ``value`` as attribute ``name`` and in ``state_dict`` (None: neither saved nor loaded)."""
        setattr(self, name, value)
        self._buffer_names.append(name)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) of the modules directly inside."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield (dotted name, module) of this module (its own name is ``prefix``) and all inside."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(_join(prefix, name))

    def own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield (name, parameter) of this module alone, not of the modules inside."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield name, value

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield (dotted name, parameter), depth first."""
        for name, parameter in self.own_parameters():
            yield _join(prefix, name), parameter
        for name, child in self.named_children():
            yield from child.named_parameters(_join(prefix, name))

    def parameters(self) -> list[Parameter]:
        """Return all parameters in the order of `named_parameters`."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield (dotted name, array) of the non-trained arrays, such as running statistics."""
        for name in self._buffer_names:
            value = getattr(self, name)
            if value is not None:
                yield _join(prefix, name), value
        for name, child in self.named_children():
            yield from child.named_buffers(_join(prefix, name))

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> Module:
        """Switch this module and all inside to training (or, with False, to evaluation)."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch to evaluation. Evaluation never communicates."""
        return self.train(False)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switch to evaluation for a while, and every module back to what it was in afterwards."""
        modes = [(module, module.training) for _, module in self.named_modules()]
        self.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return copies of all parameters and buffers by name, with PyTorch's names."""
        return {name: array.copy() for name, array in self._named_arrays()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy values in: all, or none where one does not fit.

        Parameters
        ----------
        state : mapping of str to array_like
            Anything that ``numpy.asarray`` takes, so PyTorch CPU tensors too.

        Raises
        ------
        ValueError
            Names the missing and the unexpected keys and the arrays of another shape.
        TypeError
            A value that isn't of real numbers, or, for a count, not of integers.
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
