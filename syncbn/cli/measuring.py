"""Measures with other numbers of ranks or threads than this process has: in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from syncbn.cli.errors import CommandError
from syncbn.cli.launch import run_on_ranks

PROGRAM = ("-m", "syncbn.cli.worker")


def measured(what: str, settings: Any, ranks: int = 1, environment: Mapping[str, str] | None = None) -> Any:
    """Do a piece of work of `syncbn.cli.worker` in so many new processes of this machine, and return its result.

    Parameters
    ----------
    what : str
        Which piece.
    settings : JSON value
        Its arguments.
    ranks : int
        1 is a process without MPI.
    environment : mapping, optional
        Further variables of a process without MPI.

    Raises
    ------
    LaunchError, CommandError
        It did not come to its end.
    """
    with tempfile.TemporaryDirectory(prefix="syncbn-") as directory:
        file = Path(directory, "result")
        arguments = [what, json.dumps(settings), str(file)]
        if ranks > 1:
            run_on_ranks(arguments, ranks, PROGRAM)
        else:
            command = [sys.executable, *PROGRAM, *arguments]
            done = subprocess.run(command, env=os.environ | dict(environment or {}), check=False)
            if done.returncode:
                raise CommandError(f"a process that measures {what} ended with exit code {done.returncode}")
        return json.loads(file.read_text(encoding="utf-8"))
