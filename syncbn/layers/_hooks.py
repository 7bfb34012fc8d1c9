"""Forward hooks of modules."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count
from typing import TYPE_CHECKING, Any

from syncbn._core.checks import shown
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


def call_hook(hook: ForwardHook, module: Module, arguments: tuple[Any, ...], result: Any) -> Any:
    """Return the result that a hook leaves of a call. Its errors name the hook and the module."""
    try:
        changed = hook(module, arguments, result)
        if not (changed is None or (isinstance(changed, tuple) and len(changed) == 2 and callable(changed[1]))):
            raise TypeError(f"it must return None or (y, backward), got {shown(changed)}")
    except Exception as error:
        if len(error.args) == 1:  # no new exception, which collective calls would not recognize
            where = f"forward hook ({shown(hook)}) of {type(module).__name__}, called with (module, arguments, result)"
            error.args = (f"{where}: {error}",)
        raise
    return result if changed is None else changed


_numbers = count()
