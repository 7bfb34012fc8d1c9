"""Invalid arguments give one line on stderr, from rank 0 only, and exit code 2."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from syncbn.cli import main
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


BILLION = "1000000000000"

INVALID = {
    "nothing": (
        [],
        "syncbn: error: a command is missing: give one of compare, claims, bench, scale, doctor (syncbn --help ",
    ),
    "command": (["comparee"], "syncbn: error: argument COMMAND: invalid choice: 'comparee'"),
    "option": (["compare", "--foo"], "syncbn compare: error: unrecognized arguments: --foo (syncbn compare --help"),
    "option first": (["--ranks", "2", "doctor"], "syncbn: error: options follow the command: syncbn doctor --ranks 2"),
    "option alone": (["--ranks", "2"], "syncbn: error: options follow the command: syncbn COMMAND --ranks 2"),
    "norm": (["compare", "--norms", "bn,foo"], "syncbn compare: error: unknown norm 'foo' (choose from none, bn"),
    "in": (["compare", "--norms", "in"], "syncbn compare: error: norm 'in' does not fit network 'mlp': it needs more"),
    "network": (["compare", "--network", "vgg"], "syncbn compare: error: unknown network 'vgg'"),
    "batches": (["compare", "--batches", "2,x"], "syncbn compare: error: argument --batches: invalid"),
    "batch": (["compare", "--batches", "0"], "syncbn compare: error: batches must be different positive numbers"),
    "ranks": (["compare", "--ranks", "0"], "syncbn compare: error: argument --ranks: must be at least 1, got 0"),
    "data": (["compare", "--data", "/does/not/exist"], "syncbn compare: error: "),
    "output": (["compare", "--output", "/dev/null/x"], "syncbn compare: error: argument --output: can't write to"),
    "output to a file": (
        ["compare", "--output", __file__],
        f"syncbn compare: error: argument --output: {__file__!r} is a file, expected a directory",
    ),
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
    "alpha": (
        ["scale", "--alpha", "2"],
        "syncbn scale: error: arguments --alpha and --bandwidth: give both or none, and none with --preset",
    ),
    "loggp": (["scale", "--loggp", "1,2,3"], "syncbn scale: error: argument --loggp: must be four"),
    "skew": (["scale", "--skew", "late"], "syncbn scale: error: argument --skew: must be microseconds or"),
    "at": (
        ["scale", "--preset", "lassen", "--at", "40000"],
        "syncbn scale: error: at must be numbers of ranks from 1 to 32,767, got 40000",
    ),
    "measured delays of channels": (
        ["scale", "--ranks", "2", "--channels", "64,64", "--skew", "measured"],
        "syncbn scale: error: argument --skew: delays are measured with the layers of a --network",
    ),
    "one sample": (
        ["scale", "--ranks", "2", "--network", "mlp", "--batch", "1"],
        "syncbn scale: error: argument --batch: local BN of mlp needs at least 2 samples",
    ),
    "one rank": (
        ["scale", "--ranks", "1"],
        "syncbn scale: error: a single rank sends no messages",
    ),
    "scale output": (["scale", "--output", "/dev/null/x"], "syncbn scale: error: argument --output: can't write to"),
    "bench network": (["bench", "--network", "vgg"], "syncbn bench: error: unknown network 'vgg'"),
    "bench batch": (["bench", "--batch", "0"], "syncbn bench: error: argument --batch: must be at least 1, got 0"),
    "bench mlp": (["bench", "--network", "mlp", "--batch", "1"], "syncbn bench: error: argument --batch: local BN of"),
    "claim": (["claims", "exakt"], "syncbn claims: error: unknown claim 'exakt' (choose from learning-rate, "),
    "claim seeds": (["claims", "--seeds", "1,1"], "syncbn claims: error: argument --seeds: must be different numbers"),
    "negative seed": (["claims", "--seeds=-1"], "syncbn claims: error: argument --seeds: must be different numbers"),
    "search seed": (
        ["claims", "--seeds", "1000000"],
        "syncbn claims: error: argument --seeds: must be at most 999,999",
    ),
    "claim ranks": (
        ["claims", "exact", "--ranks", "1"],
        "syncbn claims: error: claim 'exact' compares numbers of ranks",
    ),
    "claims ranks": (["claims", "--ranks", "1", "--quick"], "syncbn claims: error: claim 'small-batch' compares local"),
    "ranks of a claim": (
        ["claims", "overhead", "--ranks", "60"],
        "syncbn claims: error: claim 'overhead' needs at most 28",
    ),
    "claim data": (["claims", "--data", "/does/not/exist"], "syncbn claims: error: no data '/does/not/exist'"),
    "claim output": (["claims", "--output", "/dev/null/x"], "syncbn claims: error: argument --output: can't write to"),
    "efforts": (["claims", "--quick", "--smoke"], "syncbn claims: error: arguments --quick and --smoke: give one"),
    "list": (
        ["compare", "--batches", "2,x"],
        "syncbn compare: error: argument --batches: invalid int value: 'x' in '2,x'",
    ),
    "empty list": (["scale", "--at", ""], "syncbn scale: error: argument --at: invalid int value: ''"),
    "float list": (
        ["scale", "--loggp", "1,2,3,x"],
        "syncbn scale: error: argument --loggp: invalid float value: 'x' in",
    ),
    "float": (["scale", "--alpha", "x"], "syncbn scale: error: argument --alpha: invalid float value: 'x'"),
    "seeds": (
        ["compare", "--seeds", "1000000000"],
        "syncbn compare: error: argument --seeds: must be at most 10,000, got 1000000000",
    ),
    "many epochs": (
        ["compare", "--epochs", BILLION],
        "syncbn compare: error: argument --epochs: must be at most 1,000,000",
    ),
    "many samples": (
        ["compare", "--test-samples", BILLION],
        "syncbn compare: error: argument --test-samples: must be at",
    ),
    "many in batches": (
        ["compare", "--batches", f"2,{BILLION}"],
        "syncbn compare: error: argument --batches: must be at",
    ),
    "many ranks": (["doctor", "--ranks", BILLION], "syncbn doctor: error: argument --ranks: must be at most "),
    "more ranks": (["scale", "--ranks", "99999"], "syncbn scale: error: argument --ranks: must be at most "),
    "lr": (["compare", "--lr", "1e308"], "syncbn compare: error: argument --lr: must be a number from 0 to 1e+30"),
    "lr nan": (["compare", "--lr", "nan"], "syncbn compare: error: argument --lr: must be a number from 0 to 1e+30"),
    "rounds": (["bench", "--rounds", BILLION], "syncbn bench: error: argument --rounds: must be at most 10,000"),
    "many in batch": (["bench", "--batch", BILLION], "syncbn bench: error: argument --batch: must be at most 8,192"),
    "memory": (
        ["bench", "--batch", "8192", "--ranks", "64"],
        "syncbn bench: error: argument --batch: the largest layer needs 9,408.0 GiB of memory on 64",
    ),
    "scale memory": (
        ["scale", "--batch", "8192", "--ranks", "64"],
        "syncbn scale: error: argument --batch: the largest",
    ),
    "many channels": (["scale", "--channels", BILLION], "syncbn scale: error: argument --channels: must be at most"),
    "many in groups": (
        ["scale", "--groups", BILLION],
        "syncbn scale: error: argument --groups: must be at most 32,767",
    ),
    "json": (["doctor", "--json", ""], "syncbn doctor: error: argument --json: needs a name, got ''"),
    "long json": (["doctor", "--json", "x" * 5000], "syncbn doctor: error: argument --json: can't write to"),
    "no output": (["compare", "--output", ""], "syncbn compare: error: argument --output: needs a name, got ''"),
    "no data": (["compare", "--data", ""], "syncbn compare: error: argument --data: needs a name, got ''"),
    **{
        f"{option} {value}": (
            ["scale", *f"--preset lassen {option} {value}".split()],
            f"syncbn scale: error: argument {option}: must be ",
        )
        for option in ("--software", "--skew", "--step-ms")
        for value in ("nan", "inf", "1e308", "-1")
    },
    **{
        f"alpha {alpha} bandwidth {bandwidth}": (
            ["scale", *f"--alpha {alpha} --bandwidth {bandwidth}".split()],
            f"syncbn scale: error: argument --{'alpha' if bandwidth == '1' else 'bandwidth'}: must be a number from ",
        )
        for alpha, bandwidth in [
            *((alpha, "1") for alpha in ("nan", "inf", "1e308")),
            *(("1", bandwidth) for bandwidth in ("nan", "inf", "0", "1e-308")),
        ]
    },
    **{
        f"loggp {value}": (
            ["scale", "--loggp", f"1,1,{value},1"],
            "syncbn scale: error: argument --loggp: must be a number from 0 to 1e+09",
        )
        for value in ("nan", "inf", "1e308")
    },
    "escape": (["compare", "--data", "\x1b[31mred"], r"syncbn compare: error: no data '\x1b[31mred': expected"),
    "escaped option": (["doctor", "\x1b[31mred"], r"syncbn doctor: error: unrecognized arguments: \x1b[31mred"),
    "escaped file": (
        ["compare", "--data", "/dev/\x1b[31m"],
        r"syncbn compare: error: no data '/dev/\x1b[31m': expected",
    ),
    "bench json": (["bench", "--json", "/dev/null/x/y"], "syncbn bench: error: argument --json: can't write to"),
}


@pytest.mark.parametrize("case", INVALID)
def test_one_line_and_exit_code_2(case: str, capsys, monkeypatch) -> None:
    arguments, line = INVALID[case]
    monkeypatch.setenv("COLUMNS", "120")
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(line)
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("case", ["nothing", "data", "bench json"])
def test_one_line_and_exit_code_2_of_a_process(case: str) -> None:
    arguments, line = INVALID[case]
    result = syncbn(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


SETTINGS = [
    *(("SYNCBN_KERNELS", value) for value in ("fast", "AVX2", " ")),
    *(("SYNCBN_DEBUG", value) for value in ("yes", "true", "2")),
    *(("OMP_NUM_THREADS", value) for value in ("", "x", "0", "-3", "2.5", "2,x", "²", "1000000", "9" * 30)),
    ("OPENBLAS_NUM_THREADS", "many"),
    ("MKL_NUM_THREADS", "0"),
]


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_a_wrong_environment_variable(name: str, value: str) -> None:
    """OpenMP has no chance to print a message of its own."""
    result = syncbn("doctor", "--ranks", "2", **{name: value})
    assert result.returncode == 2
    assert result.stdout == ""
    line = rf"syncbn: error: {name} must be .*, got {value!r}( \(docs/sharp-bits.md#.*\))?\n"
    assert re.fullmatch(line, result.stderr), result.stderr


@pytest.mark.parametrize("value", ["2", "2,1", " 3 ", "08"])
def test_environment_variables_that_openmp_takes(value: str) -> None:
    result = syncbn("doctor", OMP_NUM_THREADS=value)
    assert result.returncode == 0
    assert result.stderr == ""


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_cannot_be_shown(option: str) -> None:
    command = f"{sys.executable} -m syncbn.cli {option} > /dev/full"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=40)
    assert result.returncode == 1
    assert result.stderr == "syncbn: error: can't write to the standard output: No space left on device\n"


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
    result = syncbn("compare", OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_SIZE="2")
    assert result.returncode == 1
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]  # mpi4py may have warned before
    assert re.match("syncbn compare: error: .*started 2 processes, but MPI has only one rank", last)


@pytest.mark.parametrize("command", [[], ["compare"], ["claims"], ["bench"], ["scale"], ["doctor"]])
def test_help_has_an_example(command: list[str]) -> None:
    result = syncbn(*command, "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    assert re.search(r"^examples?:\n +syncbn ", result.stdout, re.MULTILINE)
    assert max(map(len, result.stdout.splitlines())) <= 120


def test_version() -> None:
    assert re.fullmatch(r"syncbn \d+\.\d+\.\d+\n", syncbn("--version").stdout)


def test_the_package_is_the_command() -> None:
    assert main(["--version"]) == 0
    result = subprocess.run([sys.executable, "-m", "syncbn", "--version"], capture_output=True, text=True, check=False)
    assert re.fullmatch(r"syncbn \d+\.\d+\.\d+\S*\n", result.stdout)


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
