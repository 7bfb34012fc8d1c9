"""Search for modules and parameters in attributes, lists, tuples and dictionaries, and their dotted names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def join(prefix: str, name: str) -> str:
    """Return the dotted name of an item inside of ``prefix``, which may be empty."""
    return f"{prefix}.{name}" if prefix else name


def find(kind: type[T], items: Mapping[Any, Any]) -> Iterator[tuple[str, T]]:
    """Yield (dotted name, value) of the values of this kind, also in lists, tuples and dictionaries."""
    for name, value in items.items():
        if isinstance(value, kind):
            yield str(name), value
        elif isinstance(value, (list, tuple, dict)):
            found = find(kind, value if isinstance(value, dict) else dict(enumerate(value)))
            yield from ((join(str(name), inner), item) for inner, item in found)
        elif isinstance(value, (set, frozenset)) and any(isinstance(item, kind) for item in value):
            raise TypeError(f"{name} is a set of {kind.__name__}s, which has no order: use a list")


def unique(pairs: Iterable[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """Yield the pairs, but each object once, under its first name."""
    seen: set[int] = set()
    for name, value in pairs:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value
