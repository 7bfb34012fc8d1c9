"""Bits on five ranks, with several allreduce algorithms of the MPI library, in separate runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from exact.bits import assert_same_bits, bits
from syncbn.cli.mpiexec import mpiexec_command

TESTS = Path(__file__).resolve().parents[1]

# MPICH's names of algorithms: of the blocking call, and of the nonblocking call, which is used where ranks share cores.
ALGORITHMS = {
    "ring": "tsp_ring",
    "tree": "tsp_tree",
    "reduce_scatter_allgather": "sched_reduce_scatter_allgather",
}


def run_fixed_cases(file, ranks, **variables):
    """Run the fixed cases on this number of ranks; 0 is one process without MPI."""
    command, extra = mpiexec_command(ranks) if ranks else ([], {})
    python = [sys.executable, *(["-m", "mpi4py"] if ranks else []), "-m", "exact.fixed_cases", str(file)]
    return subprocess.run(
        [*command, *python, *([] if ranks else ["serial"])],
        cwd=TESTS,
        env={**os.environ, "OMP_NUM_THREADS": "1", **extra, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=45,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return a function that runs the fixed cases and returns their arrays by reduction and by name."""
    directory = tmp_path_factory.mktemp("fixed_cases")

    def results(ranks, name="default", **variables):
        file = directory / f"{ranks}-{name}.npz"
        run = run_fixed_cases(file, ranks, **variables)
        assert run.returncode == 0, run.stderr
        with np.load(file) as stored:
            arrays = dict(stored)
        assert arrays.pop("ranks") == max(ranks, 1)
        return {
            reduction: {name: array for name, array in arrays.items() if name.startswith(reduction)}
            for reduction in ("exact", "float64")
        }

    return results


@pytest.fixture(scope="module")
def one_process(results):
    return results(0)


@pytest.fixture(scope="module")
def five_ranks(results):
    return results(5)


def all_bits(arrays):
    return b"".join(map(bits, arrays.values()))


def test_five_ranks_have_the_bits_of_one_process(one_process, five_ranks):
    assert len(one_process["exact"]) == 4 * 29
    assert_same_bits(five_ranks["exact"], one_process["exact"])
    assert all_bits(five_ranks["float64"]) != all_bits(one_process["float64"])


def variables(algorithm):
    """Return the environment variables that select an algorithm of MPICH."""
    return {
        "MPIR_CVAR_DEVICE_COLLECTIVES": "none",  # otherwise shared memory may have an algorithm of its own
        "MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM": algorithm,
        "MPIR_CVAR_IALLREDUCE_INTRA_ALGORITHM": ALGORITHMS.get(algorithm, algorithm),
    }


def test_every_allreduce_algorithm_gives_the_same_bits(results, one_process, five_ranks, tmp_path):
    if run_fixed_cases(tmp_path / "file.npz", 2, **variables("no such algorithm")).returncode == 0:
        pytest.skip("this MPI library does not read MPICH's variables")
    runs = [results(5, algorithm, **variables(algorithm)) for algorithm in ALGORITHMS]
    for run in runs:
        assert_same_bits(run["exact"], one_process["exact"])
    float64 = {all_bits(run["float64"]) for run in (five_ranks, *runs)}
    assert len(float64) > 2, "the algorithms were not used: float64 sums have the same bits with all of them"
