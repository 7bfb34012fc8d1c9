"""Errors and disagreements of one rank that all ranks raise, and the communicator of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NoReturn, TypeVar

from syncbn._core.checks import shown
from syncbn.comm import SERIAL, CollectiveSignature, CommLike, Communicator, as_communicator, world
from syncbn.comm.cache import latest
from syncbn.comm.collective import FunctionT, collective
from syncbn.comm.errors import mark_repeated
from syncbn.comm.launcher import check_alone
from syncbn.comm.mpi_import import import_mpi
from syncbn.layers import Module
from syncbn.pitfalls import see

ErrorT = TypeVar("ErrorT", bound=Exception)


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
        Compared with ``==``, and by the order of the names. A name that a rank does not have is None there.

    Raises
    ------
    ValueError
        On all ranks: the first name whose values differ, and the ranks where they differ from rank 0's.
    """
    everywhere = comm.allgather(dict(values))
    names = dict.fromkeys(name for theirs in everywhere for name in theirs)  # those of rank 0 first
    for name in names:
        expected, *_ = found = [theirs.get(name) for theirs in everywhere]
        others = [f"{value!r} on rank {rank}" for rank, value in enumerate(found) if value != expected]
        if others:
            _raise_different(comm, f"{what}: {name} is {expected!r} on rank 0, but {', '.join(others)}")
    for rank, theirs in enumerate(everywhere):
        for ours, other in zip(names, theirs, strict=True):
            if ours != other:
                _raise_different(comm, f"{what}: {ours} comes on rank 0 where rank {rank} has {other}")


def _raise_different(comm: Communicator, difference: str) -> NoReturn:
    error = ValueError(f"{difference}: pass equal arguments on all ranks{see('arguments-that-differ')}")
    raise raised_by_all(error, comm)


def raised_by_all(error: ErrorT, comm: Communicator) -> ErrorT:
    """Return an error that all ranks raise at once, so that only rank 0 prints a traceback if it is not caught.

    Not collective.
    """
    if comm.rank:
        mark_repeated(error)
    return error


def check_model(model: object) -> None:
    """Raise TypeError unless ``model`` is a module."""
    if not isinstance(model, Module):
        name = shown(model)
        hint = ": use the functions of syncbn.torch" if name.endswith("of PyTorch") else ""
        raise TypeError(f"model must be a syncbn module, such as a Sequential, got {name}{hint}")


def check_ranks(comm: Communicator, model: Module) -> None:
    """Raise ValueError if layers of the model share statistics with ranks that do not take part in its training.

    Not collective.
    """
    most = max((found.size for found in communicators(model)), default=1)
    if most > comm.size:
        raise ValueError(
            f"layers of the model are synchronized over {most} ranks, but comm has {comm.size}, so the ranks would "
            "train different models: pass the communicator of the layers, or comm=None"
            f"{see('communicators-of-a-training')}"
        )


def find_communicator(comm: CommLike, model: object) -> Communicator:
    """Return the communicator that ``comm`` stands for.

    None is the communicator of the model's synchronized layers if all processes belong to it, so that none is made in
    passing; otherwise COMM_WORLD, and without mpi4py this process alone. If ``model`` is not a module, whose error all
    ranks are about to raise, None is the latest communicator of all processes.

    Collective at the first call with None or an mpi4py communicator.
    """
    if comm is not None:
        return as_communicator(comm)
    try:
        processes = import_mpi().COMM_WORLD.Get_size()
    except ImportError:
        processes = 0
    of_layers = communicators(model) if isinstance(model, Module) else []
    for found in of_layers:
        if found.size > 1 and found.size >= processes:  # one with more ranks than MPI is a TorchComm
            return found
    if not processes:
        check_alone()
        return SERIAL
    return world() if isinstance(model, Module) else latest()


def communicators(model: Module) -> list[Communicator]:
    """Return the communicators of the model's layers, in the order of the layers."""
    of_layers = [getattr(module, "comm", None) for _, module in model.named_modules()]
    return list(dict.fromkeys(comm for comm in of_layers if isinstance(comm, Communicator)))


of_all_ranks: Callable[[FunctionT], FunctionT] = collective(
    lambda passed: find_communicator(passed.get("comm"), passed.get("model"))
)
"""Decorator of collective functions whose arguments ``comm`` and ``model`` determine the communicator."""
