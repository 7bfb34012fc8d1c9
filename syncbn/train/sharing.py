"""What keeps ranks together: an error of one becomes an error of all, and all are told the same."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from syncbn.comm import SERIAL, CommLike, Communicator, Transfer, as_communicator, world


@contextmanager
def errors_shared(comm: Communicator, what: Transfer) -> Iterator[None]:
    """Meet the other ranks after the block; where it raised on one of them, raise on all.

    Collective. The rank that failed raises its own exception, the others `SyncMismatchError`. While a
    rank comes here with its error, the others may also wait in a synchronized layer: both send a header,
    so all see that they do not fit.

    Parameters
    ----------
    comm : Communicator
    what : Transfer
        What all ranks must be about to do.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = own_error(comm, caught)
    if comm.size > 1:
        comm.agree(what, error=error)
    elif error is not None:
        raise error


def own_error(comm: Communicator, error: Exception) -> Exception:
    """Return ``error`` if it is this rank's own; raise it if it came out of ``comm``, so all ranks have one.

    Not collective.
    """
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    if any(frame.f_locals.get("self") is comm for frame in frames):
        raise error
    return error


def check_same(comm: Communicator, what: str, values: Mapping[str, Any]) -> None:
    """Raise unless all ranks have the same ``values``.

    Collective.

    Parameters
    ----------
    comm : Communicator
    what : str
        How the message begins.
    values : mapping
        Compared with ``==``.

    Raises
    ------
    ValueError
        On all ranks: the first name whose values differ, and the ranks where they differ from rank 0's.
    """
    everywhere = comm.allgather(dict(values))
    for name, expected in everywhere[0].items():
        others = {rank: theirs[name] for rank, theirs in enumerate(everywhere) if theirs[name] != expected}
        if others:
            listed = ", ".join(f"{value!r} on rank {rank}" for rank, value in others.items())
            raise ValueError(f"{what}: {name} is {expected!r} on rank 0, but {listed}")


def find_communicator(comm: CommLike) -> Communicator:
    """Return the communicator that ``comm`` stands for; None is COMM_WORLD, without mpi4py this process alone.

    Collective at the first call with None or an mpi4py communicator.
    """
    if comm is not None:
        return as_communicator(comm)
    try:
        return world()
    except ImportError:
        return SERIAL
