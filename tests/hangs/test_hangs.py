"""Whatever a rank does instead of entering a call, the others raise an error that names it, and the job ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from hangs.launch import LIMIT_SECONDS, Ending, run

from syncbn.cli.mpiexec import mpiexec_command

pytest.importorskip("mpi4py")

RANKS = (2, 4)
NOTHING = "nothing"
LOST = "SyncLostRankError: .*in call 2, forward of SyncBatchNorm #2 .*, but rank {culprit} "
TIMEOUT = r"SyncTimeoutError: .* 0\.\d s in call 2, forward of SyncBatchNorm #2 .*: rank {culprit} has not entered it"

SCENARIOS = {  # what the last rank raises, and what the others do
    "leaves_before_the_last_layer": (
        NOTHING,
        LOST
        + r"exited without making this call\. Ranks have made different numbers of calls: one had fewer batches or ",
    ),
    "finalizes_before_the_last_call": (
        NOTHING,
        LOST + r"finalized MPI without making this call\. Ranks have made different numbers of calls",
    ),
    "evaluates_in_training_mode": (
        r"SyncLostRankError: .* forward of SyncBatchNorm #2 .* exited without making this call\. "
        r"Ranks have made different numbers of calls: .*, or rank \d evaluates alone, which needs model\.eval\(\) "
        r"first \(docs/sharp-bits\.md#evaluation-on-one-rank\)",
        NOTHING,
    ),
    "saves": (
        r"SyncLostRankError: .* save, .*\. save is a call of all ranks, of which rank 0 writes the file "
        r"\(docs/sharp-bits\.md#collective-calls\)",
        NOTHING,
    ),
    "evaluates_while_others_train": (NOTHING, LOST + "exited without making this call"),
    "calls_backward_twice_at_the_end": (
        NOTHING,
        "SyncLostRankError: .*in call 4, backward of SyncBatchNorm #2 .* rank {culprit} exited without making",
    ),
    "raises": ("KeyError: 'unrelated'", LOST + "ended with KeyError: 'unrelated'"),
    "closes_the_communicator": (NOTHING, LOST + "closed the communicator"),
    "never_comes": (NOTHING, TIMEOUT),
    "is_interrupted_between_messages": (
        "ValueError: .* interrupted call 2, forward of SyncBatchNorm #2",
        LOST + "(ended with ValueError|closed the communicator)",
    ),
    "makes_no_communicator": (
        NOTHING,
        r"SyncLostRankError: .* constructing the communicator, but .*rank {culprit} exited without making this call.*\."
        r" All ranks must construct a communicator together; .* use BatchNorm or comm=SerialComm\(\) "
        r"\(docs/sharp-bits\.md#layers-on-one-rank\)",
    ),
    "another_rank_raises_elsewhere": (
        "ValueError: .*must have 4 channels",
        "SyncLostRankError: .* forward of SyncBatchNorm #2 .*, but rank {culprit} "
        ".*(raised|ended with) ValueError: .* 4 channels",  # a rank that looks late finds that it has ended
    ),
    "mismatch": (
        "SyncMismatchError: .* rank 0 called layer 'SyncBatchNorm #2'",
        "SyncMismatchError: .* rank {culprit} called layer 'SyncBatchNorm #1'",
    ),
}


def check(ending: Ending, culprit: str, others: str, *, aborts: bool = True) -> None:
    """Assert what each rank raised, and that the exit code reports it."""
    *bystanders, last = ending.raised
    assert ending.code is not None, f"hangs\n{ending.output}"
    assert (ending.code != 0) == aborts, ending.output
    assert re.match(culprit, last), ending
    for raised in bystanders:
        assert re.match(others.format(culprit=len(bystanders)), raised), ending


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("ranks", RANKS)
def test_under_plain_python(scenario, ranks, tmp_path):
    check(run(scenario, ranks, tmp_path), *SCENARIOS[scenario])


@pytest.mark.parametrize("scenario", ["raises", "leaves_before_the_last_layer", "mismatch"])
@pytest.mark.parametrize("ranks", RANKS)
def test_under_mpi4py(scenario, ranks, tmp_path):
    check(run(scenario, ranks, tmp_path, program=("-m", "mpi4py")), *SCENARIOS[scenario])


@pytest.mark.parametrize(
    "scenario",
    [
        "raises_with_a_thread",
        "raises_with_a_busy_executor",
        "raises_with_a_child_process",
        "raises_with_a_slow_exit_handler",
    ],
)
@pytest.mark.parametrize("ranks", RANKS)
def test_a_rank_that_raises_and_can_not_end(scenario, ranks, tmp_path):
    """The others raise at once, not only when Python has waited for all that still runs."""
    check(run(scenario, ranks, tmp_path), *SCENARIOS["raises"])


@pytest.mark.parametrize("scenario", ["ends_with_a_thread", "exits_with_a_thread"])
@pytest.mark.parametrize("ranks", RANKS)
def test_a_rank_that_ends_and_leaves_a_thread(scenario, ranks, tmp_path):
    check(run(scenario, ranks, tmp_path), *SCENARIOS["leaves_before_the_last_layer"])


def test_a_rank_that_raises_and_can_not_end_while_nobody_waits(tmp_path):
    ending = run("raises_with_a_thread_that_nobody_waits_for", 2, tmp_path)
    assert ending.code, ending.output


@pytest.mark.parametrize("ranks", RANKS)
def test_a_thread_that_makes_calls_after_the_end_of_the_script(ranks, tmp_path):
    ending = run("continues_in_a_thread", ranks, tmp_path)
    assert ending.code == 0, ending.output
    assert ending.raised == ["RuntimeError: the call was made"] * ranks, ending


def test_the_hook_of_the_caller_is_called_instead() -> None:
    """It was installed before the first communicator."""
    command, environment = mpiexec_command(2)
    script = """
import sys
sys.excepthook = lambda kind, *_: print("MINE", kind.__name__, file=sys.stderr)
from syncbn import MPIComm
comm = MPIComm()
raise KeyError(1)
"""
    ended = subprocess.run(
        [*command, sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
        env={**os.environ, **environment},
    )
    assert ended.returncode != 0
    assert "MINE KeyError" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("ranks", RANKS)
def test_a_call_after_the_end_of_mpi(ranks, tmp_path):
    """The MPI library would end the process, with a text that names no line of the script."""
    ending = run("finalizes_too_early", ranks, tmp_path)
    assert ending.code, ending.output
    assert all(raised.startswith("ValueError: MPI was finalized, so") for raised in ending.raised), ending


@pytest.mark.parametrize("ranks", RANKS)
def test_a_rank_that_makes_a_communicator_alone(ranks, tmp_path):
    """A rank that waits learns of it from its own checks, or from the report of the rank that found it first."""
    ending = run("makes_a_communicator_alone", ranks, tmp_path)
    assert ending.code, ending.output
    assert all(
        re.match(r"SyncLostRankError|.*raised SyncLostRankError: ranks wait", raised) for raised in ending.raised
    )
    assert any("constructing the communicator, and waits for rank" in raised for raised in ending.raised), ending


@pytest.mark.parametrize("program", [(), ("-m", "mpi4py")])
@pytest.mark.parametrize("ranks", RANKS)
def test_the_traceback_of_the_rank_that_raises_is_printed(ranks, program, tmp_path):
    """The others, which end at once, do not end the job before."""
    ending = run("raises", ranks, tmp_path, program=program)
    assert f"[rank {ranks - 1}] Traceback (most recent call last):" in ending.output
    assert ending.output.count("Traceback") == 1


@pytest.mark.parametrize("program", [(), ("-m", "mpi4py")])
@pytest.mark.parametrize(
    ("scenario", "repeated"),
    [
        ("has_bad_input", "SyncMismatchError: "),
        ("has_too_few_values", "ValueError: "),
        ("all_raise", "ValueError: "),
        ("calls_after_free", "ValueError: the communicator was freed"),
        ("raises_in_the_standard_library", "JSONDecodeError: "),
        ("mismatch", "SyncMismatchError: "),
    ],
)
def test_one_traceback_is_printed(scenario, repeated, program, tmp_path):
    """Traceback of the rank that made the mistake, or of rank 0 where all did; one line of each other rank."""
    ending = run(scenario, 3, tmp_path, program=program)
    assert ending.code, ending.output
    lines = ending.output.splitlines()
    culprit = 2 if scenario == "has_bad_input" else 0
    assert [line for line in lines if "Traceback" in line] == [f"[rank {culprit}] Traceback (most recent call last):"]
    others = sorted(line for line in lines if line.startswith("[rank") and "Traceback" not in line)
    assert len(others) == 2
    assert all(repeated in line and "scenario.py, line" in line for line in others)
    assert not re.search("runpy|mpi4py|MPI_Abort", ending.output)


def test_one_traceback_of_a_timeout_is_printed(tmp_path):
    """The rank that is late prints none."""
    ending = run("never_comes", 3, tmp_path)
    lines = [line for line in ending.output.splitlines() if line.startswith("[rank") and "SyncTimeout" not in line]
    assert lines == ["[rank 0] Traceback (most recent call last):"], ending.output


@pytest.mark.parametrize("ranks", RANKS)
def test_ranks_that_wait_for_each_other_in_different_communicators(ranks, tmp_path):
    ending = run("calls_on_a_group", ranks, tmp_path)
    assert ending.code, ending.output
    assert all(raised.startswith("SyncLostRankError") for raised in ending.raised), ending
    assert any("#evaluation-on-one-rank" in raised or "#deadlocks" in raised for raised in ending.raised), ending
    whole = re.compile(
        "ranks wait for each other in different calls: .*"
        r"rank \d of \d \(.*MPI_COMM_WORLD\) is in call \d, forward of SyncBatchNorm #\d .*, and waits for rank \d.*"
        r"rank \d of \d \(.*MPI_COMM_WORLD\) is in call \d, forward of SyncBatchNorm #\d .*, and waits for rank \d"
    )
    assert any(whole.search(raised) for raised in ending.raised), ending


@pytest.mark.parametrize("ranks", RANKS)
def test_a_rank_that_is_killed(ranks, tmp_path):
    """The launcher may kill the others before they detect it."""
    check(run("is_killed", ranks, tmp_path), NOTHING, f"{LOST}crashed|{NOTHING}")


@pytest.mark.parametrize("ranks", RANKS)
def test_a_rank_that_calls_os_exit(ranks, tmp_path):
    """It has crashed, for the others; the exit code is the launcher's affair, and MPICH's may kill them before."""
    ending = run("calls_os_exit", ranks, tmp_path)
    assert ending.code is not None, f"hangs\n{ending.output}"
    for raised in ending.raised[:-1]:
        assert re.match(LOST.format(culprit=ranks - 1) + f"crashed|{NOTHING}", raised), ending


@pytest.mark.parametrize(
    ("scenario", "others"),
    [("leaves_and_others_catch", LOST + "exited without"), ("never_comes_and_others_catch", TIMEOUT)],
)
@pytest.mark.parametrize("ranks", RANKS)
def test_a_script_that_catches_the_error_ends_as_it_wants(scenario, others, ranks, tmp_path):
    """MPI_Finalize, with the requests of a closed communicator pending, must not wait for ever."""
    check(run(scenario, ranks, tmp_path), NOTHING, others, aborts=False)


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_rank_that_is_interrupted_while_it_waits(ranks, tmp_path):
    ending = run("is_interrupted", ranks, tmp_path)
    assert ending.code, ending.output
    assert ending.raised[0] == "KeyboardInterrupt: ", ending


@pytest.mark.parametrize("ranks", RANKS)
def test_a_rank_that_fails_while_the_first_communicator_is_made(ranks):
    """The others are in the middle of a collective, and know nothing of it yet."""
    script = (
        "from mpi4py import MPI\n"
        "from syncbn import MPIComm\n"
        "from syncbn.comm import protocol\n"
        "def table(*_): raise OSError(28, 'No space left on device')\n"
        "if MPI.COMM_WORLD.rank == MPI.COMM_WORLD.size - 1: protocol.RankTable = table\n"
        "MPIComm()\n"
    )
    command, environment = mpiexec_command(ranks)
    ended = subprocess.run(
        [*command, sys.executable, "-c", script],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    assert ended.returncode != 0
    assert "No space left on device" in ended.stderr
