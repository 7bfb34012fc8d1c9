"""Runs a scenario on ranks of its own and returns how each of them ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from syncbn.cli.mpiexec import mpiexec_command

LIMIT_SECONDS = 20


@dataclass(frozen=True)
class Ending:
    """mpiexec's exit code (None: it had to be killed), what each rank raised, and all output."""

    code: int | None
    raised: list[str]
    output: str


def run(scenario: str, ranks: int, directory: Path, *, program: Sequence[str] = ()) -> Ending:
    """Run ``mpiexec python PROGRAM scenario.py SCENARIO`` on so many ranks."""
    launcher, environment = mpiexec_command(ranks)
    script = str(Path(__file__).with_name("scenario.py"))
    command = [*launcher, sys.executable, *program, script, scenario, str(directory)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **environment}
    output = directory / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            code = process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
    reports = [json.loads((directory / f"rank-{rank}").read_text()) for rank in range(ranks)]
    if code is None:
        process.terminate()
        for report in reports:  # MPICH gives each rank a session of its own
            with suppress(ProcessLookupError):
                os.kill(report["pid"], signal.SIGKILL)
        process.wait()
    return Ending(code, [report["raised"] for report in reports], output.read_text(errors="replace"))
