"""``syncbn compare`` with small settings, run as a command."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from comparison import COMMAND, ENVIRONMENT, TINY, compare, complete, descendants, strict, write_images
from matplotlib.image import imread

from syncbn.cli import launch, main
from syncbn.cli.mpiexec import mpiexec_command


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the output directory and the standard output of a comparison on two ranks."""
    output = tmp_path_factory.mktemp("compare") / "new" / "directory"
    result = compare("--ranks", "2", "--seeds", "2", "--norms", "bn,syncbn,ln", *TINY, "--output", str(output))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return output, result.stdout


def test_one_line_per_run_then_the_table(on_two_ranks: tuple[Path, str]) -> None:
    output, printed = on_two_ranks
    lines = printed.splitlines()
    pattern = r"\[ *(\d+)/12\] \w+, \d+ per rank, seed [01]: test error \d+\.\d %, \d+\.\d s"
    assert [int(re.fullmatch(pattern, line)[1]) for line in lines[:12]] == list(range(1, 13))  # type: ignore[index]
    text = (output / "compare.txt").read_text()
    assert text in printed
    assert text.startswith("fashion-mnist-10k, mlp, 2 ranks, 1 epoch, 2 seeds, learning rate 0.03·(global batch)/32\n")
    assert "\nWith 2 samples per rank on 2 ranks, " in text
    assert lines[-1] == f"written: {output / 'compare.png'}, {output / 'compare.json'}, {output / 'compare.txt'}"


def test_json_has_everything(on_two_ranks: tuple[Path, str]) -> None:
    output, printed = on_two_ranks
    found = strict((output / "compare.json").read_text())
    assert found["complete"] is True
    assert found["verdict"] in printed
    assert found["config"]["norms"] == ["bn", "syncbn", "ln"]
    assert found["config"]["ranks"] == 2
    assert {"python", "numpy", "mpi4py", "mpi_library", "syncbn", "cpu"} <= set(found["versions"])
    assert all(found["versions"].values())
    assert len(found["summary"]) == 6
    assert len(found["runs"]) == 12
    for run in found["runs"]:
        assert run["epochs"] == [0.25, 0.5, 0.75, 1.0]
        for name in ("train_losses", "test_losses", "test_errors"):
            assert len(run[name]) == 4
        assert run["steps"] == 256 // (2 * run["batch"])
        assert 0 <= run["test_errors"][-1] <= 1
        assert run["seconds"] > 0
        assert run["diverged"] is False
    sent = {run["norm"]: run["bytes_sent"] for run in found["runs"] if run["batch"] == 2}
    assert sent["syncbn"] > sent["bn"] == sent["ln"] > 0


def test_figure_has_a_reasonable_size(on_two_ranks: tuple[Path, str]) -> None:
    path = on_two_ranks[0] / "compare.png"
    height, width, _ = imread(path).shape
    assert 600 <= height < width <= 3000
    assert 20_000 < path.stat().st_size < 1_000_000


def test_the_directory_has_no_other_files(on_two_ranks: tuple[Path, str]) -> None:
    assert sorted(path.name for path in on_two_ranks[0].iterdir()) == ["compare.json", "compare.png", "compare.txt"]


def test_results_under_mpiexec_are_those_of_the_launcher(on_two_ranks: tuple[Path, str], tmp_path: Path) -> None:
    command, _ = mpiexec_command(2)
    result = compare("--seeds", "1", "--norms", "syncbn", *TINY, "--output", str(tmp_path), "--json", under=command)
    assert result.returncode == 0, result.stderr
    found = {run["batch"]: run["test_errors"] for run in strict(result.stdout)["runs"]}
    before = strict((on_two_ranks[0] / "compare.json").read_text())["runs"]
    assert found == {run["batch"]: run["test_errors"] for run in before if (run["norm"], run["seed"]) == ("syncbn", 0)}


def test_json_alone_on_stdout_on_one_rank(tmp_path: Path) -> None:
    arguments = ["--ranks", "1", "--seeds", "1", "--norms", "bn,syncbn", *TINY, "--output", str(tmp_path), "--json"]
    result = compare(*arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout == (tmp_path / "compare.json").read_text()
    found = strict(result.stdout)
    assert "one seed" in found["verdict"]
    assert found["summary"][0]["test_error"]["half_width"] is None
    errors = {(run["norm"], run["batch"]): run["test_errors"] for run in found["runs"]}
    assert errors["bn", 2] == errors["syncbn", 2]  # on one rank the two layers are equal
    assert len(result.stderr.splitlines()) == 4


def test_divergence_is_a_result(tmp_path: Path) -> None:
    arguments = ["--ranks", "1", "--seeds", "1", "--norms", "none,ln", "--lr", "1e18", "--output", str(tmp_path)]
    result = compare(*arguments, *TINY)
    assert result.returncode == 0, result.stderr
    assert "diverged (1 of 1)" in result.stdout
    runs = strict((tmp_path / "compare.json").read_text())["runs"]
    assert runs[0]["diverged"] is True


def test_divergence_in_the_last_step_is_a_result(tmp_path: Path) -> None:
    """Its loss is that before the step, and finite."""
    one_step = ["--train-samples", "4", "--test-samples", "8", "--batches", "4", "--epochs", "1", "--lr", "1e30"]
    arguments = ["--ranks", "1", "--seeds", "1", "--norms", "none", "--output", str(tmp_path), *one_step]
    result = compare(*arguments)
    assert result.returncode == 0, result.stderr
    assert "diverged (1 of 1)" in result.stdout
    assert strict((tmp_path / "compare.json").read_text())["runs"][0]["diverged"] is True


def test_resnet(tmp_path: Path) -> None:
    norms = "none,bn,syncbn,gn,ln,in,wn"
    arguments = ["--ranks", "1", "--network", "resnet", "--norms", norms, "--seeds", "1", "--epochs", "1"]
    result = compare(
        *arguments, "--batches", "16", "--train-samples", "64", "--test-samples", "20", "--output", str(tmp_path)
    )
    assert result.returncode == 0, result.stderr
    assert [run["norm"] for run in strict((tmp_path / "compare.json").read_text())["runs"]] == norms.split(",")


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_interrupted(tmp_path: Path, ranks: str) -> None:
    """Complete runs are saved on Ctrl-C."""
    arguments = ["--ranks", ranks, "--seeds", "500", *TINY, "--output", str(tmp_path)]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("[   3/5000]"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    found = strict((tmp_path / "compare.json").read_text())
    assert found["complete"] is False
    assert found["verdict"] is None
    assert len(found["runs"]) >= 3
    last = errors.splitlines()[-1]
    assert last.startswith("syncbn compare: interrupted")
    assert f" {len(found['runs'])}," in last
    assert str(tmp_path / "compare.json") in last


@pytest.mark.parametrize("network", ["mlp", "resnet"])
def test_colour_images(tmp_path: Path, network: str) -> None:
    """The binary format of CIFAR-10, whose images have three channels."""
    rng = np.random.default_rng(0)
    for name, count in (*((f"data_batch_{number}", 8) for number in range(1, 6)), ("test_batch", 20)):
        records = rng.integers(0, 256, (count, 1 + 3 * 32 * 32), dtype=np.uint8)
        records[:, 0] %= 3
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    few = ["--seeds", "1", "--norms", "bn", "--epochs", "1", "--batches", "16", "--network", network]
    result = compare("--ranks", "1", *few, "--data", str(tmp_path), "--output", str(tmp_path / "output"))
    assert result.returncode == 0, result.stderr
    assert complete(tmp_path / "output")


@pytest.mark.parametrize(
    ("side", "value", "options", "problem"),
    [
        (
            25,
            None,
            "--network resnet",
            "network 'resnet' averages squares of 4 x 4 pixels, so it can't take images of 25",
        ),
        (8, 7, "--network mlp", "network 'mlp' can't take images of 8 x 8 pixels: .*all training pixels are equal"),
        (4, None, "--network resnet --norms bn,in", "'resnet' can't take images of 4 x 4 pixels: .*more than 1 value"),
    ],
)
def test_images_that_a_network_cannot_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, value: int | None, options: str, problem: str
) -> None:
    """They are refused before MPI starts."""
    write_images(tmp_path / "data", side, value)
    monkeypatch.setattr(launch, "run_processes", None)
    arguments = ["compare", "--ranks", "2", "--data", str(tmp_path / "data"), "--batches", "16", *options.split()]
    captured = io.StringIO()
    with contextlib.redirect_stderr(captured):
        assert main([*arguments, "--output", str(tmp_path / "output")]) == 2
    assert re.fullmatch(f"syncbn compare: error: .*{problem}.*\n", captured.getvalue())


def test_a_killed_rank_is_a_failure(tmp_path: Path) -> None:
    arguments = ["--ranks", "2", "--seeds", "500", *TINY, "--output", str(tmp_path)]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(next(pid for pid in descendants(process.pid) if "mpi4py" in command_line(pid)), signal.SIGKILL)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert re.search(r"rank.* of 2 ", errors.splitlines()[-1]), errors


def command_line(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return b" ".join(words).decode() if Path(words[0].decode()).name.startswith("python") else ""
