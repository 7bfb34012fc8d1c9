"""Five ranks, and several algorithms of the MPI library's allreduce, in runs of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness.launch import mpiexec_command

TESTS = Path(__file__).resolve().parents[1]

# MPICH's names: of the blocking call, and of the nonblocking one that waits where ranks share cores.
ALGORITHMS = {
    "ring": "tsp_ring",
    "tree": "tsp_tree",
    "reduce_scatter_allgather": "sched_reduce_scatter_allgather",
}


def run_fixed_cases(ranks, **variables):
    """Run the fixed cases on so many ranks (0: one process without MPI) and return their digests."""
    command, extra = mpiexec_command(ranks) if ranks else ([], {})
    python = [sys.executable, "-m", "mpi4py", "-m"] if ranks else [sys.executable, "-m"]
    return subprocess.run(
        [*command, *python, "exact.fixed_cases", *([] if ranks else ["serial"])],
        cwd=TESTS,
        env={**os.environ, "OMP_NUM_THREADS": "1", **extra, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=45,
    )


def digests(ranks, **variables):
    run = run_fixed_cases(ranks, **variables)
    assert run.returncode == 0, run.stderr
    line = json.loads(run.stdout)
    assert line["ranks"] == max(ranks, 1)
    return line


@pytest.fixture(scope="module")
def one_process():
    return digests(0)


@pytest.fixture(scope="module")
def five_ranks():
    return digests(5)


def test_five_ranks_have_the_bits_of_one_process(one_process, five_ranks):
    assert five_ranks["exact"] == one_process["exact"]
    assert five_ranks["float64"] != one_process["float64"]


def algorithm(name):
    """The environment that makes MPICH take this algorithm."""
    return {
        "MPIR_CVAR_DEVICE_COLLECTIVES": "none",  # else shared memory may have its own way
        "MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM": name,
        "MPIR_CVAR_IALLREDUCE_INTRA_ALGORITHM": ALGORITHMS.get(name, name),
    }


def test_every_allreduce_algorithm_gives_the_same_bits(one_process, five_ranks):
    if run_fixed_cases(2, **algorithm("no such algorithm")).returncode == 0:
        pytest.skip("this MPI library does not read MPICH's variables")
    others = {name: digests(5, **algorithm(name)) for name in ALGORITHMS}
    assert {name: run["exact"] for name, run in others.items()} == dict.fromkeys(others, one_process["exact"])
    plain = {five_ranks["float64"], *(run["float64"] for run in others.values())}
    assert len(plain) > 2, "the algorithms were not used: plain sums have the same bits with all of them"
