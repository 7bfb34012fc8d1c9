"""The decorator of collective functions: an error of one rank is raised on all ranks, also one of its arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from syncbn.comm.signature import CollectiveSignature

if TYPE_CHECKING:
    from syncbn.comm.communicator import Communicator

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def collective(find: Callable[[Mapping[str, Any]], Communicator]) -> Callable[[FunctionT], FunctionT]:
    """Return a decorator for a function that all ranks of a communicator call.

    If the call raises an exception that the ranks have not shared yet, such as the TypeError for an unknown keyword,
    all ranks raise it: this one unchanged, and the others `SyncMismatchError`.

    Parameters
    ----------
    find : callable
        Function that returns the communicator, given the arguments of the call by name, as far as they were passed. If
        an argument that should be a communicator is none, it raises TypeError. Then the other ranks, which may have
        passed one, are assumed to use the latest communicator of all processes.
    """

    def decorate(function: FunctionT) -> FunctionT:
        names = list(inspect.signature(function).parameters)
        signature = CollectiveSignature(function.__qualname__)

        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            try:
                return function(*arguments, **keywords)
            except Exception:  # also a SyncError of another communicator
                passed = {**dict(zip(names, arguments, strict=False)), **keywords}
                with _communicator(find, passed)._protocol.collective_errors(signature):
                    raise

        return cast(FunctionT, call)

    return decorate


def _communicator(find: Callable[[Mapping[str, Any]], Communicator], passed: Mapping[str, Any]) -> Communicator:
    from syncbn.comm.cache import latest
    from syncbn.comm.serial import SERIAL

    try:
        try:
            return find(passed)
        except TypeError:
            return latest()
    except Exception:  # there is no MPI, or this process does not belong to the communicator
        return SERIAL
