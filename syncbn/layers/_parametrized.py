"""Base class of wrappers that compute the weight of a layer from other parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from syncbn._core.checks import shown
from syncbn.layers.module import Module
from syncbn.layers.parameter import Parameter
from syncbn.typing import Backward, BackwardOf, FloatArray, ScalarT


class ParametrizedModule(Module):
    """A wrapper of a layer whose weight is computed in every forward.

    Parameters
    ----------
    module : Module
        Layer with a `Parameter` called ``name``.
    name : str
        Name of the parameter that is computed.

    Raises
    ------
    ValueError
        The module has no such parameter.
    TypeError
        ``module`` is not a Module.
    """

    def __init__(self, module: Module, name: str) -> None:
        super().__init__()
        if not isinstance(module, Module):
            raise TypeError(
                f"{type(self).__name__} expects a layer with a weight, such as nn.Dense, got {shown(module)}"
            )
        names = [own for own, _ in module.own_parameters()]
        if not (isinstance(name, str) and name in names):
            raise ValueError(f"{type(module).__name__} has no parameter {shown(name)}: its own are {names}")
        self.module = module
        self.name = name

    @property
    def _hidden(self) -> Parameter:
        """Parameter of the module whose value is computed."""
        hidden: Parameter = getattr(self.module, self.name)
        return hidden

    @abstractmethod
    def _sources(self) -> dict[str, Parameter]:
        """Return the parameters from which the weight is computed, by what follows its name in ``state_dict``."""

    @abstractmethod
    def _compute(self) -> tuple[FloatArray, Callable[[FloatArray], tuple[FloatArray, ...]]]:
        """Return the weight, and the function from its gradient to those of the sources."""

    def forward(self, x: NDArray[ScalarT]) -> tuple[NDArray[ScalarT], BackwardOf[ScalarT]]:
        """Compute the weight, and return y of the module and its backward, which adds to the gradients."""
        weight, sources = self._hidden, self._sources().values()
        weight.data, gradients = self._compute()
        weight.version = self._version()
        y, module_backward = cast("tuple[NDArray[Any], Backward]", self.module(x))

        def backward(dy: FloatArray) -> NDArray[Any]:
            """Return dL/dx, given dL/dy; add to the gradients of the parameters."""
            weight.grad = None
            weight.version = self._version()  # so the module's backward raises if a source has changed
            dx = module_backward(dy)
            if weight.grad is not None:
                for source, gradient in zip(sources, gradients(weight.grad), strict=True):
                    source.add_grad(gradient)
                weight.grad = None
            return dx

        return y, backward

    if TYPE_CHECKING:
        __call__ = forward

    def _version(self) -> int:
        return sum(source.version for source in self._sources().values())

    def _all_parameters(self, prefix: str) -> Iterator[tuple[str, Parameter]]:
        """Yield the parameters of the module under their own names, with the sources instead of the weight."""
        for name, parameter in self.module._all_parameters(prefix):
            if parameter is self._hidden:
                yield from ((name + suffix, source) for suffix, source in self._sources().items())
            else:
                yield name, parameter

    def _all_buffers(self, prefix: str, transient: bool = True) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield the buffers of the module under their own names."""
        return self.module._all_buffers(prefix, transient)
