"""The transport over MPI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.comm.liveness import report_finalize
from syncbn.comm.mpi_import import import_mpi
from syncbn.comm.transport import Op, Persistent, Test, Transport, completed
from syncbn.pitfalls import see

_FINALIZED = (
    "MPI was finalized, so its communicators can make no further call: remove MPI.Finalize(), which mpi4py calls at "
    f"the end of the process{see('closed-communicators')}"
)


class MPITransport(Transport):
    """The ranks of an mpi4py intracommunicator.

    Not collective, but its operations are.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
    name : str
        Name of the group in messages.
    duplicate : bool
        Whether `open` makes a duplicate, so that no message matches one of the caller.
    """

    def __init__(self, comm: Any, name: str, *, duplicate: bool) -> None:
        mpi: Any = import_mpi()
        _report_when_finalized()
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.name: str = name
        group, processes = comm.Get_group(), mpi.COMM_WORLD.Get_group()
        members = group.Translate_ranks(None, processes)
        self.members: tuple[int, ...] = () if mpi.UNDEFINED in members else tuple(members)
        group.Free()
        processes.Free()
        self._comm = comm
        self._duplicate = duplicate
        self._is_finalized = mpi.Is_finalized
        self._in_place = mpi.IN_PLACE
        self._error = mpi.Exception
        self._ops = {"sum": mpi.SUM, "min": mpi.MIN, "max": mpi.MAX}

    def open(self) -> Test:
        """Make the duplicate, if one is wanted."""
        if not self._duplicate:
            return completed
        with self._opening():
            self._comm, request = self._comm.Idup()

        def test() -> bool:
            with self._opening():
                return bool(request.Test())

        return test

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Return a context whose errors of MPI say what to do: MPICH reports them when the operation is tested."""
        try:
            yield
        except self._error as error:
            text = " ".join(str(error).split())
            raise ValueError(
                f"MPI can't make another communicator ({text}): free() those that are not needed"
                f"{see('too-many-communicators')}"
            ) from error

    def ended(self) -> str:
        """Return "" until MPI is finalized: the MPI library would end the process at the next operation."""
        return _FINALIZED if self._is_finalized() else ""

    def allreduce(self, array: NDArray[Any], op: Op) -> Test:
        """Combine a contiguous array over ranks, in place."""
        return _test(self._comm.Iallreduce(self._in_place, array, self._ops[op]))

    def persistent_allreduce(self, buffer: NDArray[Any], op: Op) -> Persistent:
        """Return a persistent request, where the library implements MPI 4.0."""
        try:
            request = self._comm.Allreduce_init(self._in_place, buffer, self._ops[op])
        except NotImplementedError:
            return super().persistent_allreduce(buffer, op)
        return Persistent(request.Start, request.Test, request.Free)

    def broadcast(self, array: NDArray[Any], root: int) -> Test:
        """Copy a contiguous array of rank ``root`` to all ranks, in place."""
        return _test(self._comm.Ibcast(array, root))

    def allgather(self, own: NDArray[np.uint8], gathered: NDArray[np.uint8], sizes: Sequence[int]) -> Test:
        """Write the bytes of all ranks to ``gathered``, in rank order."""
        return _test(self._comm.Iallgatherv(own, [gathered, sizes]))

    def split(self, color: int, name: str) -> MPITransport:
        """Return the group of the ranks with the same ``color``."""
        return MPITransport(self._comm.Split(color, self.rank), name, duplicate=False)

    def free(self) -> None:
        """Free the communicator."""
        self._comm.Free()


@cache
def _report_when_finalized() -> None:
    """Let MPI_Finalize report the end of this rank: it begins with the removal of the attributes of COMM_SELF."""
    mpi: Any = import_mpi()
    key = mpi.Comm.Create_keyval(delete_fn=lambda *_: report_finalize())
    mpi.COMM_SELF.Set_attr(key, None)


def _test(request: Any) -> Test:
    test: Test = request.Test
    return test
