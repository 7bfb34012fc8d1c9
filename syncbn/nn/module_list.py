"""A list of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, overload

from syncbn._core.checks import shown
from syncbn.layers._tree import find
from syncbn.layers.module import Module

if TYPE_CHECKING:
    from typing_extensions import Self


class ModuleList(Module):
    """List of layers, which a module calls as it likes.

    Children are named "0", "1", … as in PyTorch, so a parameter is named ``0.weight``. ``layers[i]``,
    ``layers[i] = layer``, ``del layers[i]``, ``layers[i:j]`` (a list of the same class that shares the layers),
    ``append``, ``len`` and iteration are supported. After a deletion, the names are the new positions.

    Parameters
    ----------
    layers : iterable of Module

    Raises
    ------
    TypeError
        A layer isn't a Module.

    See Also
    --------
    syncbn.nn.Sequential : Layers one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> layers = nn.ModuleList([nn.Dense(4, 4), nn.ReLU()])
    >>> layers = layers.append(nn.Dense(4, 2))
    >>> len(layers), len(list(layers.parameters()))
    (3, 4)
    """

    def __init__(self, layers: Iterable[Module] = ()) -> None:
        super().__init__()
        if not isinstance(layers, Iterable):
            raise TypeError(f"{type(self).__name__} expects a list of layers, got {shown(layers)}")
        self._layers = [self._checked(layer, position) for position, layer in enumerate(layers)]

    def append(self, layer: Module) -> Self:
        """Add a layer at the end, and return the list."""
        self._layers.append(self._checked(layer, len(self)))
        return self

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the layers, named by their positions, and then the modules that are other attributes."""
        attributes = {name: value for name, value in vars(self).items() if name != "_layers"}
        yield from find(Module, {**dict(enumerate(self._layers)), **attributes})

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    def __getitem__(self, index: int | slice) -> Module:
        return self._slice(self._layers[index]) if isinstance(index, slice) else self._layers[index]

    def __setitem__(self, index: int, layer: Module) -> None:
        self._layers[index] = self._checked(layer, index)

    def __delitem__(self, index: int | slice) -> None:
        del self._layers[index]

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def _slice(self, layers: list[Module]) -> ModuleList:
        return ModuleList(layers)

    def _checked(self, layer: Module, position: int) -> Module:
        if not isinstance(layer, Module):
            hint = ""
            if isinstance(layer, (list, tuple)):
                hint = f": pass the layers themselves, {type(self).__name__}(*layers)"
            elif isinstance(layer, type) and issubclass(layer, Module):
                hint = f": call the class, {layer.__name__}(...)"
            raise TypeError(f"{type(self).__name__} expects a Module at position {position}, got {shown(layer)}{hint}")
        return layer
