"""The harness detects every way in which a rank can fail, exit or hang, each of them in a temporary suite."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncbn.cli.mpiexec import find_mpiexec, mpiexec_command

TESTS = Path(__file__).resolve().parent
TIMEOUT = 3
HEADER = (
    "import ctypes, os, signal, time\nimport pytest\nfrom mpi4py import MPI\n\nCOMM = MPI.COMM_WORLD\n"
    "pytestmark = pytest.mark.ranks\n\n"
)
PASSING = "def test_before():\n    assert COMM.allreduce(1) == COMM.size\n\n"
OPTIONS = f"[pytest]\ntimeout = {TIMEOUT}\ntimeout_method = thread\n"
PROGRAMS = {"plain": ("-m", "pytest"), "mpi4py": ("-m", "mpi4py", "-m", "pytest")}


with_and_without_mpi4py = pytest.mark.parametrize("run", PROGRAMS.values(), ids=PROGRAMS, indirect=True)


@dataclass(frozen=True)
class Run:
    """The exit code of a run, and its whole output."""

    code: int
    output: str

    def count(self, outcome: str) -> int:
        """Return the number of tests with this outcome, which pytest's last line contains."""
        found = re.search(rf"^=+ .*?(\d+) {outcome}.* in .*s.* =+$", self.output, re.MULTILINE)
        return int(found.group(1)) if found else 0


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path):
    """Return a function that runs a temporary suite with this source on a number of ranks, as a user types it."""
    if find_mpiexec() is None:
        pytest.skip("there is no mpiexec")

    def run(ranks: int, source: str, *pytest_args: str, header: str = HEADER + PASSING) -> Run:
        (tmp_path / "pytest.ini").write_text(OPTIONS)
        (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
        (tmp_path / "test_temporary.py").write_text(header + source)
        mpiexec, environment = mpiexec_command(ranks)
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        ended = subprocess.run(
            [*mpiexec, sys.executable, *getattr(request, "param", PROGRAMS["plain"]), *pytest_args],
            cwd=tmp_path,
            env=os.environ | environment | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=40,
        )
        return Run(ended.returncode, ended.stdout)

    return run


@with_and_without_mpi4py
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_suite_that_passes(run, ranks):
    ended = run(ranks, "def test_rank():\n    assert 0 <= COMM.rank < COMM.size\n")
    assert ended.code == 0, ended.output
    assert ended.count("passed") == 2


def test_the_output_of_one_rank_is_shown(run):
    ended = run(3, "def test_rank():\n    print('captured')\n")
    assert ended.output.count("2 passed") == ended.output.count("session starts") == 1


def test_tests_of_one_process_are_skipped_with_the_reason(run):
    ended = run(2, PASSING + "@pytest.mark.ranks\ndef test_of_ranks():\n    pass\n", "-rs", header="import pytest\n")
    assert ended.code == 0, ended.output
    assert (ended.count("passed"), ended.count("skipped")) == (1, 1)
    assert "a test of one process; run it without mpiexec: python -m pytest" in ended.output


@with_and_without_mpi4py
def test_an_assertion_failing_on_one_rank_fails_on_all_and_the_next_test_runs(run):
    ended = run(
        3,
        "def test_assertion():\n    print('printed', COMM.rank)\n    assert COMM.rank != 1, 'only here'\n\n"
        "def test_after():\n    assert COMM.allreduce(1) == COMM.size\n",
    )
    assert ended.code == 1
    assert (ended.count("passed"), ended.count("failed")) == (2, 1)
    assert "ranks disagree: failed on rank 1, passed on ranks 0, 2" in ended.output
    assert "AssertionError: only here" in ended.output
    assert "printed 1" in ended.output


def test_failures_with_other_texts_are_shown_for_every_rank(run):
    ended = run(2, "def test_both():\n    raise ValueError(f'error of rank {COMM.rank}')\n")
    assert ended.code == 1
    assert all(f"ValueError: error of rank {rank}" in ended.output for rank in range(2))


def test_a_skip_on_only_one_rank_is_a_failure(run):
    ended = run(2, "@pytest.mark.skipif(COMM.rank == 1, reason='rank 1')\ndef test_skip():\n    pass\n")
    assert ended.code == 1
    assert "passed on rank 0, skipped on rank 1" in ended.output


def test_a_fixture_failing_on_one_rank_prevents_the_test_on_all(run):
    ended = run(
        2,
        "@pytest.fixture\ndef broken():\n    assert COMM.rank != 1\n\ndef test_fixture(broken):\n    COMM.barrier()\n",
    )
    assert ended.code == 1
    assert (ended.count("passed"), ended.count("error")) == (1, 1)


def test_an_example_failing_on_one_rank_fails_on_all(run):
    ended = run(
        2,
        "from hypothesis import given, settings, strategies\n\n"
        "@settings(derandomize=True, deadline=None, database=None, report_multiple_bugs=False)\n"
        "@given(strategies.integers(0, 100))\n"
        "def test_examples(n):\n    COMM.barrier()\n    assert COMM.rank == 0 or n < 50\n",
    )
    assert (ended.count("passed"), ended.count("failed")) == (1, 1)
    assert "this example failed on another rank" in ended.output


@with_and_without_mpi4py
@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "pytest.exit('over', 0)"])
def test_a_rank_that_exits_is_a_failure(run, end):
    ended = run(3, f"def test_exit():\n    if COMM.rank == 1:\n        {end}\n    COMM.barrier()\n")
    assert ended.code != 0, ended.output
    assert "os._exit(0) was called" in ended.output or "os._exit" not in end


@with_and_without_mpi4py
def test_a_hang_ends_with_the_stacks_of_all_ranks(run):
    ended = run(
        3,
        "def test_hang():\n    if COMM.rank == 1:\n        raise KeyError('skips the collective')\n"
        "    COMM.barrier()\n",
    )
    assert ended.code != 0
    for rank in range(3):
        assert f"rank {rank} of 3: TIMEOUT after {TIMEOUT} s in test_temporary.py::test_hang" in ended.output
    assert "skips the collective" in ended.output
    assert ended.output.count("in test_hang\n    COMM.barrier()") == 2


def test_a_hang_that_blocks_all_threads_of_the_interpreter_ends(run):
    ended = run(2, "def test_hang():\n    ctypes.PyDLL(None).sleep(100 * COMM.rank)\n    COMM.barrier()\n")
    assert ended.code != 0
    assert "test_hang" in ended.output


def test_ranks_that_collect_different_tests_fail(run):
    ended = run(2, "if COMM.rank == 1:\n    def test_more():\n        pass\n")
    assert ended.code != 0
    assert "the ranks collected different tests" in ended.output
    assert ended.count("passed") == 0


@with_and_without_mpi4py
def test_a_file_that_one_rank_cannot_import_is_a_failure(run):
    ended = run(2, "if COMM.rank == 1:\n    raise ImportError('not here')\n")
    assert ended.code != 0
    assert "ImportError: not here" in ended.output
    assert ended.count("passed") == 0


def test_processes_of_another_launcher_are_an_error(run, monkeypatch):
    """As if mpiexec of another MPI library had started two processes, each with an MPI world of size 1."""
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    ended = run(1, "")
    assert ended.code != 0
    assert "a launcher started 2 processes, but MPI has only one rank" in ended.output


@pytest.mark.parametrize("source", ["", "pytestmark = pytest.mark.skip(reason='all')\n\ndef test_skip():\n    pass\n"])
def test_a_suite_in_which_no_test_runs_does_not_pass(run, source):
    assert run(2, source, header="import pytest\n").code == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize("ranks", [0, 2])
@pytest.mark.parametrize(
    ("source", "options", "code", "text"),
    [
        ("", (), 0, "ok"),
        ("", ("-k", "nothing_of_this_name"), 1, "no test ran"),
        ("    assert False\n", (), 1, "FAILED"),
        ("    import os\n    os._exit(0)\n", (), 1, "without completing"),
    ],
)
def test_run_py(tmp_path, ranks, source, options, code, text):
    """tests/run.py also detects that all ranks exit with code 0 in the middle of a test."""
    mark = "import pytest\n\n@pytest.mark.ranks\n" if ranks else ""
    (tmp_path / "pytest.ini").write_text(OPTIONS)
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "test_temporary.py").write_text(f"{mark}def test_temporary():\n    pass\n{source}")
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, str(TESTS / "run.py"), "--ranks", str(ranks), *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert text in ended.stdout
