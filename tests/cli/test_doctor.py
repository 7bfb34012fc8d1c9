"""``syncbn doctor`` on this machine, and its warnings for hypothetical machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from syncbn._core.threads import affinity
from syncbn.cli.diagnosis import warnings_about
from syncbn.cli.mpiexec import INSTALL, mpiexec_command
from syncbn.comm import SerialComm
from syncbn.experiments.latency import SIZES, allreduce_microseconds


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "syncbn.cli", "doctor", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def test_one_rank() -> None:
    result = doctor()
    assert result.returncode == 0
    assert result.stderr == ""
    for word in ("syncbn", "MPI", "mpiexec", "ranks", "cores", "vectors", "threads", "kernels", "allreduce"):
        assert f"\n{word} " in "\n" + result.stdout


def test_two_ranks_measure_the_allreduce() -> None:
    result = doctor("--ranks", "2", "--json")
    assert result.returncode == 0
    found = json.loads(result.stdout)
    assert found["ranks"]["total"] == 2
    assert found["problems"] == []
    assert [entry["bytes"] for entry in found["allreduce"]] == list(SIZES)
    assert all(0 < entry["microseconds"] < 1e6 for entry in found["allreduce"])


def test_json_is_written_to_a_file_in_addition_to_the_text(tmp_path: Path) -> None:
    file = tmp_path / "doctor.json"
    result = doctor("--json", str(file))
    assert result.stdout.endswith(f"\nwritten: {file}\n")
    assert json.loads(file.read_text())["ranks"]["total"] == 1


def test_findings_are_printed_although_the_file_is_not_writable() -> None:
    result = doctor("--json", "/dev/full")
    assert result.returncode == 1
    assert "kernels" in result.stdout
    assert result.stderr.startswith("syncbn doctor: error: ")
    assert "/dev/full: No space left on device" in result.stderr


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_a_closed_pipe_is_not_an_error(ranks: str) -> None:
    command = [sys.executable, "-m", "syncbn.cli", "doctor", "--ranks", ranks, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_settings_are_printed() -> None:
    result = doctor(SYNCBN_DEBUG="1", SYNCBN_KERNELS="baseline")
    assert "\nsettings   SYNCBN_DEBUG=1 SYNCBN_KERNELS=baseline\n" in result.stdout


def test_a_misspelt_variable() -> None:
    result = doctor(SYNCBN_KERNEL="avx2", SYNCBN_SOMETHING_ELSE="1")
    assert "\nwarning    SYNCBN_KERNEL has no effect: is it SYNCBN_KERNELS?\n" in result.stdout
    assert "SOMETHING_ELSE" not in result.stdout


def test_a_foreign_mpiexec_on_path(tmp_path: Path) -> None:
    """It runs the program twice, without MPI."""
    foreign = tmp_path / "mpiexec"
    foreign.write_text("#!/bin/sh\necho Foreign 1.0\n")
    foreign.chmod(0o755)
    command = [sys.executable, "-m", "syncbn.cli", "doctor"]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path})
    assert f", on PATH {foreign} (Foreign 1.0)\n" in result.stdout
    assert f"\nwarning    mpiexec on PATH is {foreign} (Foreign 1.0), with which" in result.stdout


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"__init__.py": "raise ImportError('not here')"}, "ImportError: not here"),
        ({"__init__.py": "class rc: pass", "MPI.py": "raise RuntimeError('no library\\nlibmpi.so')"}, "libmpi.so"),
    ],
)
@pytest.mark.parametrize("command", ["doctor", "compare"])
def test_ranks_without_mpi(tmp_path: Path, files: dict[str, str], reason: str, command: str) -> None:
    package = tmp_path / "mpi4py"
    package.mkdir()
    for name, text in files.items():
        (package / name).write_text(text)
    result = subprocess.run(
        [sys.executable, "-m", "syncbn.cli", command, "--ranks", "2"],
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )
    assert result.returncode == 1
    assert result.stderr == (
        f"syncbn {command}: error: 2 ranks need mpi4py, but it cannot load MPI ({reason}): {INSTALL}\n"
    )


def test_works_without_mpi4py() -> None:
    hide = "import sys; sys.modules.update(mpi4py=None); from syncbn.cli import main; sys.exit(main(['doctor']))"
    result = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "warning    no mpi4py: " in result.stdout
    assert "pip install 'syncbn[mpi]'" in result.stdout


HEALTHY: dict[str, Any] = {
    "software": {"mpi4py": "4.1.2", "mpi_library": "MPICH 5.0.2"},
    "mpiexec": {"path": "/bin/mpiexec", "library": "MPICH"},
    "mpi_files": ["/lib/libmpi.so.12"],
    "ranks": {"total": 8, "per_node": {"a": 4, "b": 4}},
    "machine": {"usable_cores": 8},
    "threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": None, "MKL_NUM_THREADS": None, "blas": "openblas"},
    "kernels": {"used": "avx2", "builds": ["avx2", "baseline"], "threads": 1},
    "allreduce": [{"bytes": 8, "microseconds": 999.0}],
}
ONE_NODE = {"ranks": {"total": 4, "per_node": {"a": 4}}}
SLOW = {"allreduce": [{"bytes": 8, "microseconds": 3.0}, {"bytes": 2048, "microseconds": 4210.0}]}


BUSY = ONE_NODE | {"machine": {"usable_cores": 8, "cores": 8, "load": 4.0}}


@pytest.mark.parametrize(
    "change", [{}, ONE_NODE, SLOW, BUSY], ids=["healthy", "one node", "a slow network", "enough cores"]
)
def test_no_warnings_about_a_healthy_machine(change: dict[str, Any]) -> None:
    assert warnings_about(HEALTHY | change) == []


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"software": {"mpi4py": None, "mpi_library": None}}, "no mpi4py"),
        ({"software": {"mpi4py": "4", "mpi_library": None}}, "mpi4py finds no MPI library"),
        (
            {"software": {"mpi4py": "4", "mpi_library": None}, "settings": {"MPI4PY_LIBMPI": "/none"}},
            "mpi4py finds no MPI library: MPI4PY_LIBMPI=/none is not one",
        ),
        ({"mpiexec": None}, "no mpiexec"),
        (
            {"mpiexec": {"path": "/bin/mpiexec", "library": "Open MPI"}},
            "mpiexec belongs to Open MPI, but mpi4py uses",
        ),
        (
            {"other_mpiexec_on_path": {"path": "/usr/bin/mpiexec", "library": "Open MPI"}},
            "mpiexec on PATH is /usr/bin/mpiexec (Open MPI), with which every rank may get a COMM_WORLD of size 1: use",
        ),
        ({"mpi_files": ["/a/libmpi.so.12", "/b/libmpi.so.40"]}, "two MPI libraries are loaded"),
        ({"machine": {"usable_cores": 3}}, "4 ranks share 3 cores"),
        ({"machine": {"usable_cores": 4}}, "4 ranks × 2 BLAS threads > 4 cores: set OMP_NUM_THREADS=1"),
        (
            ONE_NODE | {"machine": {"usable_cores": 8, "cores": 8, "load": 4.5}},
            "the load average is 4.5, and 4 of 8 cores are free besides the threads of this run: ",
        ),
        (
            {"ranks": {"total": 1, "per_node": {"a": 1}}, "machine": {"usable_cores": 1}},
            "1 rank × 2 BLAS threads > 1 cores: set OMP_NUM_THREADS=1",
        ),
        (
            {"kernels": {"used": "reference", "builds": ["baseline"], "threads": 1}},
            "SYNCBN_KERNELS selects the reference",
        ),
        (
            {"kernels": {"used": "avx2", "builds": ["avx2"], "threads": 3}},
            "4 ranks × 3 kernel threads > 8 cores: set OMP_NUM_THREADS=2",
        ),
        (
            {"kernels": {"used": "baseline", "builds": ["avx2", "baseline"], "threads": 1}},
            "SYNCBN_KERNELS selects baseline kernels, slower than avx2",
        ),
        (
            ONE_NODE | SLOW,
            "an allreduce of 2048 bytes takes 4.2 ms on one node instead of microseconds: look for other programs",
        ),
        (
            ONE_NODE | SLOW | {"machine": {"usable_cores": 2}},
            "an allreduce of 2048 bytes takes 4.2 ms on one node instead of microseconds: the ranks share cores",
        ),
    ],
)
def test_warnings(change: dict[str, Any], warning: str) -> None:
    assert any(text.startswith(warning) for text in warnings_about(HEALTHY | change))


def test_a_wrong_sum_is_a_problem() -> None:
    class Broken(SerialComm):
        size = 2  # but allreduce adds nothing

    with pytest.raises(RuntimeError, match="wrong sums"):
        allreduce_microseconds(Broken(), 8)
    assert allreduce_microseconds(SerialComm(), 8) > 0


BOUND = """
import os
from syncbn.cli.diagnosis import diagnose
from syncbn.comm import MPIComm

with MPIComm() as comm:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[comm.rank]})
    found = diagnose(comm)
    assert found["machine"]["usable_cores"] == 2, found["machine"]
    assert not any("share" in warning for warning in found["warnings"]), found["warnings"]
"""


@pytest.mark.skipif(len(affinity()) < 2, reason="needs two cores")
def test_ranks_that_are_bound_to_cores_of_their_own_share_none(tmp_path: Path) -> None:
    """As Open MPI and srun bind them."""
    script = tmp_path / "bound.py"
    script.write_text(BOUND)
    command, environment = mpiexec_command(2)
    result = subprocess.run(
        [*command, sys.executable, "-m", "mpi4py", str(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )
    assert result.returncode == 0, result.stderr


def test_a_process_of_another_mpi_is_diagnosed(monkeypatch) -> None:
    """Each process of a foreign mpiexec has one rank. One prints the whole report."""
    monkeypatch.setenv("PMI_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("PMI_RANK", rank)
        result = doctor()
        assert result.returncode == 1
        assert result.stderr == ""
        assert ("\nPROBLEM    PMI_SIZE=2: a launcher started 2 processes" in result.stdout) == (rank == "0")
        assert ("\nkernels " in result.stdout) == (rank == "0")


def test_ranks_of_a_foreign_launcher_are_diagnosed(monkeypatch) -> None:
    """Name the variable of another launcher, beside which --ranks would start ranks whose numbers do not fit."""
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    result = doctor("--ranks", "2")
    assert result.returncode == 1
    assert "\nPROBLEM    OMPI_COMM_WORLD_SIZE=4: a launcher started 4 processes" in result.stdout
    assert "both are listed above" in result.stdout
    assert "`syncbn doctor`" not in result.stdout
