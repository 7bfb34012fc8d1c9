"""Forward hooks of modules."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count
from typing import TYPE_CHECKING, Any

from syncbn.typing import FloatArray

if TYPE_CHECKING:
    from syncbn.layers.module import Module

ForwardHook = Callable[["Module", tuple[Any, ...], tuple[FloatArray, Any]], tuple[FloatArray, Any] | None]
"""A function of a module, the positional arguments of its call, and its result, which it may replace."""


class HookHandle(AbstractContextManager["HookHandle"]):
    """A registered hook. ``remove()`` or the end of a ``with`` block removes it.

    Parameters
    ----------
    hooks : dict
        Hooks of a module, by number.
    hook : callable
    """

    def __init__(self, hooks: dict[int, ForwardHook], hook: ForwardHook) -> None:
        self._hooks, self._number = hooks, next(_numbers)
        hooks[self._number] = hook

    def remove(self) -> None:
        """Remove the hook, if it has not been removed yet."""
        self._hooks.pop(self._number, None)

    def __exit__(self, *error: object) -> None:
        self.remove()


_numbers = count()
