"""Files and output of ``syncbn compare`` where something hinders them: encodings, redirections, names, links."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from comparison import COMMAND, ENVIRONMENT, FEW, TINY, compare, complete, descendants, strict, write_images

from syncbn.files import printable


@pytest.mark.parametrize(
    ("ranks", "environment"),
    [
        ("1", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ("2", {"PYTHONIOENCODING": "ascii"}),
    ],
    ids=["locale", "ascii"],
)
def test_an_encoding_that_lacks_characters(tmp_path: Path, ranks: str, environment: dict[str, str]) -> None:
    command = [*COMMAND, "--ranks", ranks, *FEW, "--output", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, check=False, timeout=45, env=ENVIRONMENT | environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr == b""
    assert b"learning rate 0.03" in result.stdout
    assert complete(tmp_path)


CANNOT_WRITE = "syncbn: error: can't write to the standard output"

REDIRECTIONS = {
    ">&-": f"{CANNOT_WRITE}: it is closed\n",
    "> /dev/full": f"{CANNOT_WRITE}: {os.strerror(errno.ENOSPC)}\n",
    "| head -n 1": "",
    ">&- 2>&-": "",
    "2> /dev/full": "",
}
"""Redirections of a shell, with what is shown on stderr."""


@pytest.mark.parametrize("ranks", ["1", "2"])
@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_results_are_kept_where_they_cannot_be_shown(tmp_path: Path, ranks: str, redirection: str) -> None:
    command = " ".join([*COMMAND, "--ranks", ranks, *FEW, "--output", str(tmp_path / "output")])
    result = subprocess.run(
        ["bash", "-c", f"{command} {redirection}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=45,
        env=ENVIRONMENT,
    )
    assert result.returncode == (0 if redirection.startswith("2>") else 1)
    assert result.stderr == REDIRECTIONS[redirection]
    assert complete(tmp_path / "output")


@pytest.mark.parametrize("name", ["compare.png", "compare.json", "compare.txt"])
def test_a_file_that_cannot_be_written_hides_nothing_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    result = compare("--ranks", "1", *FEW, "--output", str(tmp_path))
    assert result.returncode == 1
    assert result.stderr == f"syncbn compare: error: can't write {tmp_path / name}: Is a directory\n"
    assert "With 2 samples per rank on 1 rank, " in result.stdout
    files = [tmp_path / f"compare.{end}" for end in ("png", "json", "txt")]
    assert result.stdout.endswith(f"\nwritten: {', '.join(str(file) for file in files if file.name != name)}\n")
    assert all(file.exists() for file in files)


@pytest.mark.parametrize("name", ["50 % of $a_$b^{", "\x1b[31mred\nleft\u202eright 名"])
def test_any_name_of_a_directory(tmp_path: Path, name: str) -> None:
    """Figures read $ as mathematics, and terminals execute escapes."""
    write_images(tmp_path / name, 8)
    few = ["--seeds", "1", "--norms", "bn", "--epochs", "1", "--batches", "16"]
    result = compare("--ranks", "1", *few, "--data", str(tmp_path / name), "--output", str(tmp_path / f"{name}-output"))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert complete(tmp_path / f"{name}-output")
    shown = printable(name)
    assert f"{shown}, mlp, 1 rank" in (tmp_path / f"{name}-output" / "compare.txt").read_text()
    assert f"{shown}, mlp, 1 rank" in result.stdout
    assert f"/{shown}-output/compare.png, " in result.stdout.splitlines()[-1]
    assert all(character.isprintable() or character == "\n" for character in result.stdout)


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_a_second_comparison_in_a_directory_is_refused(tmp_path: Path, ranks: str) -> None:
    arguments = ["--ranks", ranks, "--seeds", "500", *TINY, "--output", str(tmp_path)]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = len(strict((tmp_path / "compare.json").read_text())["runs"])
        other = compare("--ranks", ranks, *FEW, "--output", str(tmp_path))
        assert other.returncode == 2
        assert other.stdout == ""
        pattern = rf"syncbn compare: error: argument --output: process (\d+) is writing a comparison to '{tmp_path}'\n"
        found = re.fullmatch(pattern, other.stderr)
        assert found, other.stderr
        assert int(found[1]) in [process.pid, *descendants(process.pid)]
        assert process.poll() is None
        after = strict((tmp_path / "compare.json").read_text())
        assert len(after["runs"]) >= before
        assert after["config"]["seeds"] == 500
        process.terminate()
        process.stdout.read()
    assert compare("--ranks", "1", *FEW, "--output", str(tmp_path)).returncode == 0
    assert complete(tmp_path)


def test_files_of_an_earlier_comparison_may_be_links(tmp_path: Path) -> None:
    victim, output = tmp_path / "victim", tmp_path / "output"
    output.mkdir()
    victim.write_text("of the user")
    for name in ("compare.json", "compare.txt", "compare.png", "compare.json.tmp"):
        (output / name).symlink_to(victim)
    assert compare("--ranks", "1", *FEW, "--output", str(output)).returncode == 0
    assert victim.read_text() == "of the user"
    assert complete(output)


def test_files_of_an_earlier_comparison_are_kept(tmp_path: Path) -> None:
    """One generation of them, and only of a comparison that was completed."""
    names = ("compare.json", "compare.txt", "compare.png")
    for content in ("of the first one", "of the second one"):
        for name in names:
            (tmp_path / name).write_text(content)
        assert compare("--ranks", "1", *FEW, "--output", str(tmp_path)).returncode == 0
        assert {(tmp_path / f"previous-{name}").read_text() for name in names} == {content}
    assert complete(tmp_path)
    (tmp_path / "compare.txt").unlink()
    assert compare("--ranks", "1", *FEW, "--output", str(tmp_path)).returncode == 0
    assert (tmp_path / "previous-compare.json").read_text() == "of the second one"


def test_progress_bar_on_a_terminal(tmp_path: Path) -> None:
    """Under mpiexec stdout is a pipe; the launcher passes the width of the terminal to the ranks."""
    import pty

    leader, follower = pty.openpty()
    arguments = ["--ranks", "2", "--seeds", "1", "--norms", "bn,ln", *TINY, "--output", str(tmp_path)]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=follower, stderr=subprocess.PIPE, env=ENVIRONMENT | {"TERM": "xterm"}
    ) as process:
        os.close(follower)
        shown = b""
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            try:
                chunk = os.read(leader, 65536)
            except OSError:  # the follower is closed
                break
            if not chunk:
                break
            shown += chunk
    os.close(leader)
    text = shown.decode()
    assert process.returncode == 0
    assert "/4 runs" in text
    assert "\x1b[" in text
    assert "[1/4]" not in text  # lines are written only without a terminal
    assert "With 2 samples per rank on 2 ranks, " in text
