"""``syncbn claims`` with its smallest settings, run as a command."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from on_terminal import OnTerminal

from syncbn.experiments.claims import CLAIMS

COMMAND = [sys.executable, "-m", "syncbn.cli", "claims"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
NAMES = ["placement", "exact"]
SMALL = [*NAMES, "--smoke", "--ranks", "2"]

pytestmark = pytest.mark.timeout(150)  # some tests run the command three times


def claims(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=120, env=ENVIRONMENT
    )


def without_seconds(value: Any) -> Any:
    """Return JSON values without all that is named seconds."""
    if isinstance(value, dict):
        return {name: without_seconds(entry) for name, entry in value.items() if name != "seconds"}
    return [without_seconds(entry) for entry in value] if isinstance(value, list) else value


def read(directory: Path) -> Any:
    return json.loads((directory / "claims.json").read_text())


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the output directory and the standard output of a run on two ranks."""
    output = tmp_path_factory.mktemp("claims") / "new" / "directory"
    result = claims(*SMALL, "--output", str(output))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return output, result.stdout


def test_files_and_output(on_two_ranks: tuple[Path, str]) -> None:
    output, printed = on_two_ranks
    names = ["claims.json", "claims.txt", "figures", "pieces", "report.html"]
    assert sorted(path.name for path in output.iterdir()) == names
    figures = sorted(path.name for path in (output / "figures").iterdir())
    stems = ["exact-parameters", "placement-error"]
    assert figures == [f"{stem}.{end}" for stem in stems for end in ("png", "svg")]
    lines = printed.splitlines()
    assert re.fullmatch(
        r"\[ 1/28\] placement: activation ReLU, place before, lr 0\.01, seed 1000000 and 1 more", lines[0]
    )
    assert all(re.match(r"\[[ \d]\d/28\] .* \(about \d+ (s|min) left\)", line) for line in lines[1:14])
    text = (output / "claims.txt").read_text()
    assert text in printed
    assert text.startswith("fashion-mnist-10k, smoke, 2 ranks, seeds 0,1\n\nplacement: ")
    assert "\nexact: holds\n" in text
    assert lines[-1].startswith(f"written: {output / 'figures'}, {output / 'claims.json'}, ")


def test_json_has_everything(on_two_ranks: tuple[Path, str]) -> None:
    found = read(on_two_ranks[0])
    assert found["complete"] is True
    assert found["seeds"] == [0, 1]
    assert found["configuration"]["ranks"] == 2
    assert found["versions"]["syncbn"]
    assert [claim["name"] for claim in found["claims"]] == NAMES
    assert found["seconds"] == pytest.approx(sum(claim["seconds"] for claim in found["claims"]))
    for claim in found["claims"]:
        assert claim["statement"] == CLAIMS[claim["name"]].statement
        assert claim["checks"]
        assert claim["numbers"]
        assert claim["pieces"]
        assert claim["seconds"] >= sum(piece["seconds"] for piece in claim["pieces"]) > 0
    assert len(found["claims"][0]["search"]) == 12


def test_an_interrupted_run_continues(on_two_ranks: tuple[Path, str], tmp_path: Path) -> None:
    """The result is that of a run without interruption, and no finished piece is measured again."""
    with subprocess.Popen(
        [*COMMAND, *SMALL, "--output", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("[13/28]"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    kept = {path: path.read_bytes() for path in tmp_path.glob("pieces/*/*.json")}
    assert 12 <= len(kept) < 28
    last = errors.splitlines()[-1]
    assert (
        last
        == f"syncbn claims: interrupted; pieces kept in {tmp_path / 'pieces'}: {len(kept)}; the same command continues"
    )
    assert not (tmp_path / "report.html").exists()

    result = claims(*SMALL, "--output", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"[{len(kept) + 1}/28] ")
    assert all(path.read_bytes() == content for path, content in kept.items())
    first, second = read(on_two_ranks[0]), read(tmp_path)
    assert without_seconds(first) == without_seconds(second)
    assert first != second  # but for seconds

    again = claims(*SMALL, "--output", str(tmp_path))
    assert again.returncode == 0
    assert not again.stdout.startswith("[")
    assert read(tmp_path) == second


def test_more_claims_and_seeds_keep_the_pieces_of_others(on_two_ranks: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(on_two_ranks[0] / "pieces", tmp_path / "pieces")
    result = claims("placement", "--smoke", "--ranks", "1", "--seeds", "1,2", "--output", str(tmp_path), "--json")
    assert result.returncode == 0, result.stderr
    assert result.stdout == (tmp_path / "claims.json").read_text()
    assert result.stderr.startswith("[19/24] placement: activation ReLU, place before")  # 12 of the search, 6 of seed 1
    assert len(result.stderr.splitlines()) == 6
    before = {str(p["key"]): p["numbers"] for p in read(on_two_ranks[0])["claims"][0]["pieces"]}
    found = {str(p["key"]): p["numbers"] for p in json.loads(result.stdout)["claims"][0]["pieces"]}
    assert len(common := before.keys() & found.keys()) == 6
    assert all(found[key] == before[key] for key in common)


def test_list_needs_no_ranks() -> None:
    result = claims("--list", "--ranks", "1")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(CLAIMS)
    assert all(claim.statement in line for claim, line in zip(CLAIMS.values(), lines, strict=True))
    assert claims("exact", "--list").stdout.count("\n") == 1


def test_a_second_run_in_a_directory_is_refused(tmp_path: Path) -> None:
    arguments = ["learning-rate", "--quick", "--ranks", "1", "--output", str(tmp_path)]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        other = claims(*SMALL, "--output", str(tmp_path))
        process.terminate()
        process.stdout.read()
    assert other.returncode == 2
    assert re.fullmatch(
        rf"syncbn claims: error: argument --output: process \d+ is writing claims to '{tmp_path}'\n", other.stderr
    )


def test_images_that_are_too_few_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 300), ("t10k", 100)):
        for name, array in (
            ("images-idx3", rng.integers(0, 256, (count, 8, 8))),
            ("labels-idx1", np.arange(count) % 3),
        ):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (tmp_path / f"{part}-{name}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())
    result = claims(*SMALL, "--data", str(tmp_path), "--output", str(tmp_path / "output"))
    assert result.returncode == 2
    assert result.stderr.endswith("300 training and 100 test images: the claims need 320 and 100\n")
    assert not (tmp_path / "output").exists()


def test_the_bar_shows_what_is_left(tmp_path: Path) -> None:
    command = OnTerminal([*COMMAND, "learning-rate", "--quick", "--ranks", "2", "--output", str(tmp_path / "output")])
    command.read_until(lambda: b"2/56 pieces" in command.shown)
    os.write(command.terminal, b"\x03")
    assert command.wait() == 130
    assert b"left" in command.shown
    assert b"\x1b[?25l" not in command.shown  # a killed process could not show the cursor again
    assert list((tmp_path / "output" / "pieces").glob("*/*.json"))
