"""The lock on the directory of a command's results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from syncbn.cli.errors import UsageError
from syncbn.comm import Communicator
from syncbn.files import directory_lock


@contextmanager
def locked(output: Path, comm: Communicator, what: str) -> Iterator[None]:
    """Lock the directory of ``--output`` during the ``with`` block. Collective.

    Raises
    ------
    UsageError
        Another process is writing ``what`` to it; raised on all ranks.
    """
    with ExitStack() as lock:
        holder = None
        if comm.rank == 0:
            try:
                lock.enter_context(directory_lock(output))
            except BlockingIOError as error:
                holder = error.strerror
        if holder := comm.allgather(holder)[0]:
            raise UsageError(f"argument --output: {holder} is writing {what} to {str(output)!r}")
        yield
