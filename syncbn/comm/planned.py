"""Messages of fixed memory that layers send again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 1 << 18
"""Of a message for which memory and a request are kept: the words of 8,191 channels."""


class PlannedMessages:
    """Those of one communicator that are combined by one operation.

    Parameters
    ----------
    plan : callable
        Returns the `syncbn._core.message.PlannedMessage` of an array.
    """

    def __init__(self, plan: Callable[[NDArray[Any]], Any]) -> None:
        self._plan = plan
        self._planned: dict[tuple[int, np.dtype[Any]], Any] = {}

    def get(self, size: int, dtype: np.dtype[Any]) -> Any:
        """Return the message of so many numbers of ``dtype``, or None where that is too many."""
        message = self._planned.get((size, dtype))
        if message is None and size * dtype.itemsize <= MOST_BYTES:
            message = self._planned[size, dtype] = self._plan(np.empty(size, dtype))
        return message

    def lend(self, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the memory of that message, or new memory where there is none."""
        message = self.get(size, dtype)
        memory: NDArray[Any] = np.empty(size, dtype) if message is None else message.buffer
        return memory

    def free(self) -> None:
        """Give all requests back; all ranks must be known to be here."""
        for message in self._planned.values():
            message.free()
