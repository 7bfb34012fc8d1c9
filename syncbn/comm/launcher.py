"""The number of processes that a launcher started, compared with the number of ranks that MPI has.

Started by the launcher of another MPI library, or by ``srun`` without a matching PMI, each process has a COMM_WORLD of
its own, and training with local statistics would look as if all was well.
"""

from __future__ import annotations

import os

from syncbn._core.environment import is_set
from syncbn.pitfalls import see

PERMISSION = "SYNCBN_SINGLE_PROCESS"
"""An environment variable: 1 allows one rank in each of several processes."""

_SIZES = (
    "PMI_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "MPI_WORLD_SIZE",
    "PALS_SIZE",
    "JSM_NAMESPACE_SIZE",
    "FLUX_JOB_SIZE",
    "SLURM_STEP_NUM_TASKS",  # of srun alone; a script of sbatch that starts one process has SLURM_NTASKS too
)

_RANKS = (
    "PMI_RANK",
    "PMIX_RANK",
    "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_RANK",
    "PALS_RANKID",
    "ALPS_APP_PE",
    "JSM_NAMESPACE_RANK",
    "FLUX_TASK_RANK",
    "SLURM_PROCID",
)

_NO_RANKS = "MPI has only one rank in this one"
_OVER_TORCH = "Start them with mpiexec, or use comm=syncbn.torch.TorchComm(), which communicates over torch.distributed"


def single_process_problem(ranks: int, libraries: str = "`syncbn doctor` shows both") -> str:
    """Return what is wrong where MPI has one rank and a launcher started several processes; "" if nothing is.

    The text says with ``libraries`` where the user sees the library of mpi4py and that of mpiexec.
    """
    if ranks > 1 or is_set(PERMISSION):
        return ""
    sizes = {name: _integer(name) for name in _SIZES} | {name: _integer(name) + 1 for name in _RANKS}
    name = max(sizes, key=sizes.__getitem__)
    if sizes[name] < 2:
        return ""
    started = f"{sizes[name]} or more" if name in _RANKS else sizes[name]
    return (
        f"{name}={os.environ[name]}: a launcher started {started} processes, but MPI has only one rank in this one, so "
        "each would train alone. Start them with the mpiexec of the MPI library that mpi4py uses, or with a matching "
        f"PMI (srun --mpi=pmi2 or --mpi=pmix); {libraries}. {PERMISSION}=1 allows single processes"
        f"{see('processes-without-their-ranks')}"
    )


def torchrun_problem(ranks: int, problem: str = _NO_RANKS, advice: str = _OVER_TORCH) -> str:
    """Return what is wrong where MPI has one rank and torchrun started several processes; "" if nothing is."""
    processes = _integer("WORLD_SIZE")
    if ranks > 1 or is_set(PERMISSION) or "TORCHELASTIC_RUN_ID" not in os.environ or processes < 2:
        return ""
    return (
        f"WORLD_SIZE={processes}: torchrun started {processes} processes, but {problem}, so each would train alone. "
        f"{advice}. {PERMISSION}=1 allows single processes{see('processes-without-their-ranks')}"
    )


def check_alone(problem: str = _NO_RANKS, advice: str = _OVER_TORCH) -> None:
    """Raise RuntimeError if a launcher started several processes, so that each of them would be alone without MPI.

    For processes of torchrun, the text has what is missing, and what to do.
    """
    if found := single_process_problem(1) or torchrun_problem(1, problem, advice):
        raise RuntimeError(found)


def _integer(name: str) -> int:
    """Return the value of an environment variable, or -1 where it is not a number."""
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else -1
