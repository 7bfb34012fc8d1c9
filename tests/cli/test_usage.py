"""Invalid arguments give one line on stderr, from rank 0 only, and exit code 2."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from syncbn.cli.mpiexec import mpiexec_command


def syncbn(*arguments: str, under: list[str] | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command and return its result."""
    return subprocess.run(
        [*(under or []), sys.executable, "-m", "syncbn.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"} | environment,
    )


INVALID = {
    "nothing": ([], "syncbn: error: the following arguments are required: COMMAND"),
    "command": (["comparee"], "syncbn: error: argument COMMAND: invalid choice: 'comparee'"),
    "option": (["compare", "--foo"], "syncbn compare: error: unrecognized arguments: --foo"),
    "norm": (["compare", "--norms", "bn,foo"], "syncbn compare: error: unknown norm 'foo' (choose from none, bn"),
    "in": (["compare", "--norms", "in"], "syncbn compare: error: norm 'in' does not fit network 'mlp': it needs more"),
    "network": (["compare", "--network", "vgg"], "syncbn compare: error: unknown network 'vgg'"),
    "batches": (["compare", "--batches", "2,x"], "syncbn compare: error: argument --batches: invalid"),
    "batch": (["compare", "--batches", "0"], "syncbn compare: error: batches must be different positive numbers"),
    "ranks": (["compare", "--ranks", "0"], "syncbn compare: error: argument --ranks: must be at least 1, got 0"),
    "data": (["compare", "--data", "/does/not/exist"], "syncbn compare: error: "),
    "output": (["compare", "--output", "/dev/null/x"], "syncbn compare: error: argument --output: can't write to"),
    "too few": (
        ["compare", "--train-samples", "100", "--ranks", "4"],
        "syncbn compare: error: 32 samples per rank on 4 ranks are more than the 100 samples of the data",
    ),
    "epochs": (["compare", "--epochs", "0"], "syncbn compare: error: epochs must be at least 1, got 0"),
    "doctor": (["doctor", "--ranks", "many"], "syncbn doctor: error: argument --ranks: invalid int value: 'many'"),
    "preset": (["scale", "--preset", "foo"], "syncbn scale: error: unknown preset 'foo' (choose from lassen"),
    "scale network": (
        ["scale", "--network", "vgg"],
        "syncbn scale: error: unknown network 'vgg' (choose from resnet50",
    ),
    "two layers": (["scale", "--network", "mlp", "--channels", "8"], "syncbn scale: error: argument --channels: not"),
    "channels": (["scale", "--channels", "8,0"], "syncbn scale: error: channels must be at least 1, got 0"),
    "alpha": (["scale", "--alpha", "2"], "syncbn scale: error: arguments --alpha and --bandwidth: give both or none"),
    "loggp": (["scale", "--loggp", "1,2,3"], "syncbn scale: error: argument --loggp: must be four"),
    "skew": (["scale", "--skew", "late"], "syncbn scale: error: argument --skew: must be microseconds or"),
    "at": (["scale", "--preset", "lassen", "--at", "40000"], "syncbn scale: error: at must be numbers of ranks from 1"),
    "one rank": (
        ["scale", "--ranks", "1"],
        "syncbn scale: error: a single rank sends no messages",
    ),
    "scale output": (["scale", "--output", "/dev/null/x"], "syncbn scale: error: argument --output: can't write to"),
    "bench network": (["bench", "--network", "vgg"], "syncbn bench: error: unknown network 'vgg'"),
    "bench batch": (["bench", "--batch", "0"], "syncbn bench: error: argument --batch: must be at least 1, got 0"),
    "bench mlp": (["bench", "--network", "mlp", "--batch", "1"], "syncbn bench: error: argument --batch: local BN of"),
    "bench json": (["bench", "--json", "/dev/null/x/y"], "syncbn bench: error: argument --json: can't write to"),
}


@pytest.mark.parametrize("case", INVALID)
def test_one_line_and_exit_code_2(case: str) -> None:
    arguments, line = INVALID[case]
    result = syncbn(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("case", ["nothing", "option", "norm", "data", "ranks", "preset", "bench batch"])
def test_under_mpiexec_only_rank_0_prints_the_line(case: str) -> None:
    command, environment = mpiexec_command(2)
    arguments, line = INVALID[case]
    result = syncbn(*arguments, under=command, **environment)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(line)
    assert result.stderr.count(": error: ") == 1
    assert result.stderr.count("\n") == 1


def test_ranks_must_be_those_of_mpiexec() -> None:
    command, environment = mpiexec_command(2)
    result = syncbn("doctor", "--ranks", "3", under=command, **environment)
    assert result.returncode == 2
    assert re.match("syncbn doctor: error: argument --ranks: .*3.*mpiexec.*2", result.stderr)


def test_an_mpiexec_of_another_library_is_detected() -> None:
    """If mpiexec and mpi4py belong to different MPI libraries, every rank gets a COMM_WORLD of size 1."""
    result = syncbn("doctor", OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_SIZE="2")
    assert result.returncode == 1
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]  # mpi4py may have warned before
    assert re.match("syncbn doctor: error: .*started 2 processes, but MPI has only one rank", last)


@pytest.mark.parametrize("command", [[], ["compare"], ["bench"], ["scale"], ["doctor"]])
def test_help_has_an_example(command: list[str]) -> None:
    result = syncbn(*command, "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    assert re.search(r"^examples?:\n +syncbn ", result.stdout, re.MULTILINE)
    assert max(map(len, result.stdout.splitlines())) <= 120


def test_version() -> None:
    assert re.fullmatch(r"syncbn \d+\.\d+\.\d+\n", syncbn("--version").stdout)


def test_missing_extra_is_named(tmp_path: Path) -> None:
    hide = "import sys; sys.modules.update(matplotlib=None); from syncbn.cli import main; sys.exit(main(sys.argv[1:]))"
    result = subprocess.run(
        [sys.executable, "-c", hide, "compare", "--output", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert re.match(r"syncbn compare: error: .*matplotlib.*'syncbn\[cli\]'\n$", result.stderr)


def test_missing_mpi_is_named() -> None:
    hide = (
        "import sys; sys.modules.update(mpi4py=None); from syncbn.cli import main; "
        "sys.exit(main(['doctor', '--ranks', '2']))"
    )
    result = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert re.match(r"syncbn doctor: error: .*mpi4py.*'syncbn\[mpi\]'", result.stderr)
    assert result.stderr.count("\n") == 1
