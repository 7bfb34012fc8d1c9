"""Detection of losses that are means over the samples of one rank, whose gradients must not be summed over ranks."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from syncbn.typing import FloatArray


class _State(threading.local):
    gradient: Callable[[], FloatArray | None] = staticmethod(lambda: None)
    used = False


_state = _State()


def remember_mean(gradient: FloatArray) -> None:
    """Remember the gradient of a loss that is the mean over all samples it was given."""
    _state.gradient = weakref.ref(gradient)


def notice_backward(dy: FloatArray) -> None:
    """Notice whether a backward begins with the gradient that was remembered last."""
    if _state.gradient() is dy:
        _state.used = True


def took_mean() -> bool:
    """Return whether a backward has begun with such a gradient since the last call."""
    used, _state.used = _state.used, False
    return used
