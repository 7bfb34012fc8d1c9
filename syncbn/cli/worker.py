"""``python -m syncbn.cli.worker TASK SETTINGS FILE``: one task of a measuring command, in new processes.

SETTINGS are the arguments of the task as JSON. Rank 0 writes the result as JSON to FILE.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from syncbn.cli import completion, ranks
from syncbn.comm import Communicator, SerialComm, world
from syncbn.experiments.bench.kernels import kernel_speeds
from syncbn.experiments.scale.measurement import measure


def measure_ranks(comm: Communicator, settings: Any) -> Any:
    """Measure allreduces, layers and delays. Collective."""
    return measure(comm, _shapes(settings["shapes"]), rounds=settings["rounds"], calls=settings["calls"]).as_json()


def measure_kernels(comm: Communicator, settings: Any) -> Any:  # noqa: ARG001 (one process)
    """Measure kernels with the number of threads of this process. Not collective."""
    return kernel_speeds([tuple(shape) for shape in settings["shapes"]], settings["threads"], settings["rounds"])


TASKS: Mapping[str, Callable[[Communicator, Any], Any]] = {"ranks": measure_ranks, "kernels": measure_kernels}


def main(arguments: list[str]) -> None:
    """Run one task on this rank. Collective."""
    task, settings, file = arguments
    comm = world() if ranks.under_mpiexec() else SerialComm()
    result = TASKS[task](comm, json.loads(settings))
    if comm.rank == 0:
        Path(file).write_text(json.dumps(result), encoding="utf-8")
    if completion.launched():
        completion.report(0)


def _shapes(pairs: list[tuple[list[int], int]]) -> dict[tuple[int, ...], int]:
    return {tuple(shape): count for shape, count in pairs}


if __name__ == "__main__":
    main(sys.argv[1:])
