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
        Returns the `syncbn._dispatch.message.PlannedMessage` of an array.
    """

    def __init__(self, plan: Callable[[NDArray[Any]], Any]) -> None:
        self._plan = plan
        self._lent: dict[tuple[int, np.dtype[Any]], NDArray[Any]] = {}
        self._planned: dict[int, Any] = {}

    def lend(self, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the memory of the message of so many numbers of ``dtype``, or new memory where that is too many."""
        found = self._lent.get((size, dtype))
        if found is None:
            found = np.empty(size, dtype)
            if found.nbytes <= MOST_BYTES:
                self._lent[size, dtype] = found
                self._planned[id(found)] = self._plan(found)
        return found

    def find(self, memory: NDArray[Any]) -> Any:
        """Return the message of memory that was lent, or None where it is no such memory."""
        return self._planned.get(id(memory))

    def free(self) -> None:
        """Give all requests back; all ranks must be known to be here."""
        for message in self._planned.values():
            message.free()
