"""``python -m syncbn.cli.worker TASK SETTINGS``: one task of a measuring command, in processes that it has launched.

SETTINGS are the arguments of the task as JSON. Rank 0 records the result as JSON for the launcher.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from syncbn.cli import completion, ranks
from syncbn.cli.process import run_process
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


def run_task(arguments: list[str]) -> int:
    """Run one task on this rank and return the exit code. Collective."""
    task, settings = arguments
    comm = world() if ranks.under_mpiexec() else SerialComm()
    result = TASKS[task](comm, json.loads(settings))
    if comm.rank == 0:
        completion.save_result(json.dumps(result))
    return 0


def _shapes(pairs: list[tuple[list[int], int]]) -> dict[tuple[int, ...], int]:
    return {tuple(shape): count for shape, count in pairs}


if __name__ == "__main__":
    sys.exit(run_process(lambda: run_task(sys.argv[1:])))
