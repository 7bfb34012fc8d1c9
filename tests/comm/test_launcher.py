"""Processes that were started together, of which MPI has one rank each."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from syncbn._core.environment import SettingError
from syncbn.cli.diagnosis import diagnose
from syncbn.comm import SERIAL
from syncbn.comm.launcher import PERMISSION, check_alone, single_process_problem, torchrun_problem

STARTED = {
    "srun": {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"},
    "Hydra": {"PMI_SIZE": "4", "PMI_RANK": "2"},
    "Open MPI": {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"},
    "MVAPICH": {"MV2_COMM_WORLD_SIZE": "4"},
}
ALONE = {
    "no launcher": {},
    "mpiexec -n 1": {"PMI_SIZE": "1", "PMI_RANK": "0"},
    "a batch script": {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"},
    "not a number": {"PMI_SIZE": "four"},
}


@pytest.fixture
def launched(monkeypatch):
    """Return a function that sets the variables of a launcher, and no others."""
    for name in os.environ:
        if name.startswith(("PMI", "OMPI_", "MV2_", "SLURM_")):
            monkeypatch.delenv(name)
    return lambda variables: [monkeypatch.setenv(*item) for item in variables.items()]


@pytest.mark.parametrize("launcher", STARTED)
def test_one_rank_in_each_of_four_processes_is_an_error(launched, monkeypatch, launcher):
    launched(STARTED[launcher])
    with pytest.raises(RuntimeError, match="started 4 processes, but MPI has only one rank"):
        check_alone()
    assert any("started 4 processes" in problem for problem in diagnose(SERIAL)["problems"])
    assert not single_process_problem(4)
    monkeypatch.setenv(PERMISSION, "1")
    check_alone()


def test_a_rank_number_tells_that_there_are_others(launched):
    launched({"PMIX_RANK": "3"})
    with pytest.raises(RuntimeError, match="started 4 or more processes"):
        check_alone()


@pytest.mark.parametrize("launcher", ALONE)
def test_one_process_alone_is_no_error(launched, launcher):
    launched(ALONE[launcher])
    check_alone()
    assert diagnose(SERIAL)["problems"] == []


def test_the_first_communicator_is_refused(launched):
    pytest.importorskip("mpi4py")
    launched(STARTED["srun"])
    script = "from syncbn import SyncBatchNorm; SyncBatchNorm(3)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode
    assert "started 4 processes" in ended.stderr


@pytest.mark.parametrize("value", ["yes", "2"])
def test_a_wrong_value_of_the_permission(monkeypatch, value):
    monkeypatch.setenv(PERMISSION, value)
    with pytest.raises(SettingError, match=f"SYNCBN_SINGLE_PROCESS must be 1 or 0, got '{value}'"):
        check_alone()


def test_processes_of_torchrun_are_refused(launched, monkeypatch):
    launched({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"})
    assert "torchrun started 2 processes" in torchrun_problem(1)
    assert any("use comm=syncbn.torch.TorchComm()" in problem for problem in diagnose(SERIAL)["problems"])
    assert not torchrun_problem(2)
    with pytest.raises(RuntimeError, match=r"torchrun started 2 processes, but there is no group, .* Make one"):
        check_alone("there is no group", "Make one")
    pytest.importorskip("mpi4py")
    script = "from syncbn import SyncBatchNorm; SyncBatchNorm(3)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert "torchrun started 2 processes" in ended.stderr
    alone = "from mpi4py import MPI; from syncbn import MPIComm; MPIComm(MPI.COMM_SELF)"
    subprocess.run([sys.executable, "-c", alone], check=True, timeout=60)
    launched({"WORLD_SIZE": "1"})
    assert not torchrun_problem(1)
    monkeypatch.setenv(PERMISSION, "1")
    launched({"WORLD_SIZE": "2"})
    assert not torchrun_problem(1)


def test_an_mpi_library_that_cannot_be_loaded_is_named():
    program = "import syncbn; syncbn.SyncBatchNorm(3)"
    environment = {**os.environ, "MPI4PY_LIBMPI": "/none/libmpi.so"}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert re.search(r"^ImportError: .*library \(.*MPI4PY_LIBMPI=/none/libmpi\.so\): pip install", found.stderr, re.M)
