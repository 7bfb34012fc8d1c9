"""One process alone."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_integer
from syncbn._core.message import NOTHING
from syncbn.comm.call import Signature
from syncbn.comm.communicator import Communicator, Op

T = TypeVar("T")


class SerialComm(Communicator):
    """The communicator of one process: nothing is sent, needs no MPI."""

    rank = 0
    size = 1

    _distributed = None

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def agree(
        self,
        call: Signature,  # noqa: ARG002
        maxima: NDArray[np.float64] = NOTHING,  # noqa: ARG002
        error: Exception | None = None,
        forward_number: int = 0,  # noqa: ARG002
    ) -> int:
        """Raise ``error`` if there is one; one process agrees with itself."""
        if error is not None:
            raise error
        self._calls += 1
        return self._calls

    def allreduce(self, array: NDArray[Any], op: Op = "sum") -> None:
        """Leave ``array`` as it is."""

    def allreduce_agreed(self, array: NDArray[Any]) -> None:
        """Leave ``array`` as it is."""

    def broadcast(self, array: NDArray[Any], root: int = 0) -> None:
        """Leave ``array`` as it is."""

    def allgather(self, value: T) -> list[T]:
        """Return ``[value]``."""
        return [value]

    def barrier(self) -> None:
        """Return at once."""

    def split(self, group_size: int) -> SerialComm:
        """Return another communicator of this process."""
        check_integer("group_size", group_size)
        return SerialComm()

    def free(self) -> None:
        """Do nothing."""

    def __deepcopy__(self, memo: object) -> SerialComm:  # type: ignore[override]
        return SerialComm()

    def __reduce__(self) -> tuple[type[SerialComm], tuple[()]]:  # type: ignore[override]
        return SerialComm, ()


SERIAL = SerialComm()
"""What ``comm=None`` means in `syncbn.functional`."""
