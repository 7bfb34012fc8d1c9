"""Replacement of modules inside a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from syncbn.layers.module import Module


def replace_modules(module: Module, convert: Callable[[Module], Module]) -> Module:
    """Replace the module and all modules inside it by what ``convert`` returns for them, and return the module.

    Modules are replaced in attributes, lists and dictionaries, in place, and in tuples. ``convert`` is called once for
    each module, from the outside inwards: for one that it returns unchanged, the modules inside are converted next.
    """
    converted: dict[int, Module] = {}

    def replaced(value: Any) -> Any:
        if isinstance(value, Module):
            if id(value) not in converted:
                converted[id(value)] = new = convert(value)
                if new is value:
                    replaced(vars(value))
            return converted[id(value)]
        if isinstance(value, tuple):
            items = tuple(map(replaced, value))
            if all(new is old for new, old in zip(items, value, strict=True)):
                return value
            return value._make(items) if hasattr(value, "_make") else items  # a named tuple
        if isinstance(value, list):
            value[:] = map(replaced, value)
        elif isinstance(value, dict):
            value.update({key: replaced(item) for key, item in value.items()})
        return value

    result: Module = replaced(module)
    return result
