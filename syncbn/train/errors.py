"""Errors and disagreements of one rank that all ranks raise, and the communicator of a training."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from syncbn.comm import SERIAL, CollectiveSignature, CommLike, Communicator, as_communicator, world


def collective_errors(comm: Communicator, operation: str, **arguments: Any) -> AbstractContextManager[None]:
    """Return a context at whose end all ranks meet, in which an error of one rank becomes an error of all.

    Collective. The rank that failed raises its own exception, the others `SyncMismatchError`. While a rank leaves the
    block with its error, the others may also wait in a synchronized layer: both are handshakes, so all ranks detect
    that they do not match.

    Parameters
    ----------
    comm : Communicator
    operation : str
        What all ranks must be about to do.
    **arguments
        What must be equal on all ranks.
    """
    context: AbstractContextManager[None] = comm._protocol.collective_errors(
        CollectiveSignature(operation, tuple(arguments.items())), handshake=True
    )
    return context


def check_same(comm: Communicator, what: str, values: Mapping[str, Any]) -> None:
    """Raise unless all ranks have the same ``values``.

    Collective.

    Parameters
    ----------
    comm : Communicator
    what : str
        Beginning of the error message.
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
