"""The harness detects every way in which a rank can fail, exit or hang, each of them in a temporary suite."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from harness.launch import run_suite
from harness.outcome import Outcome

from syncbn.cli.mpiexec import find_mpiexec

TIMEOUT = 3
HEADER = "import os, signal, time\nimport pytest\nfrom mpi4py import MPI\n\nCOMM = MPI.COMM_WORLD\n\n"
PASSING = "def test_before():\n    assert COMM.allreduce(1) == COMM.size\n\n"


@pytest.fixture
def run(tmp_path: Path):
    """Return a function that runs a temporary suite with this source on a number of ranks."""
    if find_mpiexec() is None:
        pytest.skip("there is no mpiexec")

    def run(ranks: int, source: str, *pytest_args: str, limit: float = 40.0) -> Outcome:
        suite = tmp_path / "suite"
        suite.mkdir()
        (suite / "pytest.ini").write_text(f"[pytest]\ntimeout = {TIMEOUT}\ntimeout_method = thread\n")
        (suite / "test_temporary.py").write_text(HEADER + PASSING + source)
        return run_suite(ranks, suite, tmp_path / "logs", pytest_args, limit=limit)

    return run


def logs(outcome: Outcome) -> list[str]:
    """Return the output of each rank."""
    return [(outcome.logs / f"rank-{rank}.log").read_text() for rank in range(max(outcome.ranks, 1))]


def is_gone(pid: int) -> bool:
    """Return whether the process ends within seconds; a zombie has ended, but its parent has not waited for it yet."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(50):
        try:
            state = stat.read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("ranks", [0, 1, 3])
def test_a_suite_that_passes_has_no_problems(run, ranks):
    outcome = run(ranks, "def test_rank():\n    assert 0 <= COMM.rank < COMM.size\n")
    assert outcome.problems == []
    assert outcome.failed_ranks == []
    assert outcome.count("passed") == 2


def test_an_assertion_failing_on_one_rank_fails_on_all_and_the_next_test_runs(run):
    outcome = run(
        3,
        "def test_assertion():\n    assert COMM.rank != 1, 'only here'\n\n"
        "def test_after():\n    assert COMM.allreduce(1) == COMM.size\n",
    )
    assert outcome.problems == ["exit status 1 of pytest on every rank"]
    assert (outcome.count("passed"), outcome.count("failed")) == (2, 1)
    assert "ranks disagree: failed on rank 1, passed on ranks 0, 2" in logs(outcome)[0]
    assert "only here" in logs(outcome)[0]
    assert outcome.seconds < 20


def test_a_skip_on_only_one_rank_is_a_failure(run):
    outcome = run(2, "@pytest.mark.skipif(COMM.rank == 1, reason='rank 1')\ndef test_skip():\n    pass\n")
    assert outcome.count("failed") == 1
    assert "passed on rank 0, skipped on rank 1" in logs(outcome)[0]


def test_a_fixture_failing_on_one_rank_prevents_the_test_on_all(run):
    outcome = run(
        2,
        "@pytest.fixture\ndef broken():\n    assert COMM.rank != 1\n\ndef test_fixture(broken):\n    COMM.barrier()\n",
    )
    assert (outcome.count("passed"), outcome.count("failed")) == (1, 1)


def test_an_example_failing_on_one_rank_fails_on_all(run):
    outcome = run(
        2,
        "from hypothesis import given, settings, strategies\n\n"
        "@settings(derandomize=True, deadline=None, database=None, report_multiple_bugs=False)\n"
        "@given(strategies.integers(0, 100))\n"
        "def test_examples(n):\n    COMM.barrier()\n    assert COMM.rank == 0 or n < 50\n",
    )
    assert (outcome.count("passed"), outcome.count("failed")) == (1, 1)
    assert "this example failed on another rank" in logs(outcome)[0]


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "pytest.exit('over', 0)"])
def test_a_rank_that_exits_is_a_failure(run, end):
    outcome = run(3, f"def test_exit():\n    if COMM.rank == 1:\n        {end}\n    COMM.barrier()\n")
    assert outcome.problems
    assert 1 in outcome.failed_ranks
    assert outcome.seconds < 30


def test_a_process_that_exits_with_code_0_is_a_failure(run):
    outcome = run(0, "def test_exit():\n    os._exit(0)\n")
    assert outcome.problems == ["rank 0 exited without its report"]


def test_a_hang_ends_with_the_stacks_of_all_ranks(run):
    outcome = run(
        3,
        "def test_hang():\n    if COMM.rank == 1:\n        raise KeyError('skips the collective')\n"
        "    COMM.barrier()\n",
    )
    assert outcome.problems
    assert outcome.seconds < TIMEOUT + 20
    for rank, log in enumerate(logs(outcome)):
        assert f"rank {rank} of 3: TIMEOUT after {TIMEOUT} s in test_temporary.py::test_hang" in log
        assert ("skips the collective" if rank == 1 else "in test_hang\n    COMM.barrier()") in log


def test_ranks_that_collect_different_tests_fail(run):
    outcome = run(2, "if COMM.rank == 1:\n    def test_more():\n        pass\n")
    assert outcome.problems
    assert "the ranks collected different tests" in logs(outcome)[0]
    assert not outcome.ran


def test_a_file_that_one_rank_cannot_import_is_a_failure(run):
    outcome = run(2, "if COMM.rank == 1:\n    raise ImportError('not here')\n")
    assert outcome.problems
    assert not outcome.ran


def test_the_limit_ends_a_run_with_the_stacks_of_all_ranks(run):
    outcome = run(2, "def test_long():\n    time.sleep(600)\n", "--timeout=0", limit=6)
    assert outcome.problems[0] == "not finished after 6 s"
    assert outcome.seconds < 20
    for log in logs(outcome):
        assert "in test_long" in log
    for report in outcome.reports:
        assert is_gone(report["pid"])


def test_a_suite_without_tests_does_not_pass(run):
    outcome = run(2, "", "-k", "nothing_of_this_name")
    assert outcome.problems == ["exit status 5 of pytest on every rank"]
    assert not outcome.ran


def test_a_suite_that_skips_everything_does_not_pass(run):
    outcome = run(2, "pytestmark = pytest.mark.skip(reason='all')\n")
    assert outcome.problems == ["no test ran"]
    assert outcome.count("skipped") == 1
