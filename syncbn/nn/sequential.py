"""A sequence of layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import overload

from syncbn.layers.module import Module
from syncbn.typing import Backward, FloatArray


class Sequential(Module):
    """Composition of layers: y = fₖ(… f₂(f₁(x))).

    Children are named "0", "1", … as in PyTorch, so a parameter is named ``0.weight``. ``model[i]``,
    ``model[i] = layer``, ``model[i:j]`` (a Sequential that shares the layers), ``len`` and iteration are supported.

    Parameters
    ----------
    *layers : Module

    Raises
    ------
    TypeError
        A layer isn't a Module.
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__()
        self._layers = [_checked(layer, position) for position, layer in enumerate(layers)]

    def forward(self, x: FloatArray) -> tuple[FloatArray, Backward]:
        """Return y of the last layer and the backward through all layers."""
        backwards = []
        for layer in self._layers:
            x, layer_backward = layer(x)
            backwards.append(layer_backward)

        def backward(dy: FloatArray) -> FloatArray:
            for layer_backward in reversed(backwards):
                dy = layer_backward(dy)
            return dy

        return x, backward

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the layers, named by their positions."""
        for position, layer in enumerate(self._layers):
            yield str(position), layer

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return Sequential(*self._layers[index])
        return self._layers[index]

    def __setitem__(self, index: int, layer: Module) -> None:
        self._layers[index] = _checked(layer, index)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def _checked(layer: Module, position: int) -> Module:
    if not isinstance(layer, Module):
        raise TypeError(f"Sequential expects a Module at position {position}, got {type(layer).__name__}")
    return layer
