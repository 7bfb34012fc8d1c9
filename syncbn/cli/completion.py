"""How a rank tells the launcher that it came to its end.

MPICH's mpiexec exits with 0 when a rank leaves by ``os._exit(0)`` while others wait, so its exit code
proves nothing. Each rank writes its own exit code into a file of a directory that the launcher made.
"""

from __future__ import annotations

import os
from pathlib import Path

from syncbn.cli import ranks

VARIABLE = "SYNCBN_COMPLETION"
"""Environment variable with the directory; only `run_on_ranks` sets it."""


def launched() -> bool:
    """Tell whether this process is a rank that `run_on_ranks` started."""
    return VARIABLE in os.environ


def report(exit_code: int) -> None:
    """Write down that this rank has ended with ``exit_code``."""
    Path(os.environ[VARIABLE], str(ranks.rank())).write_text(str(exit_code), encoding="ascii")


def read(directory: Path, size: int) -> list[int | None]:
    """Return the exit code of every rank, None for one that wrote none."""
    files = [directory / str(rank) for rank in range(size)]
    texts = [file.read_text(encoding="ascii") if file.exists() else "" for file in files]
    return [int(text) if text else None for text in texts]  # empty: a rank was killed as it began to write
