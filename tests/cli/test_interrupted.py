"""Comparisons that are interrupted on a terminal: no rank is left, the cursor is visible, complete runs are saved."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from comparison import descendants
from on_terminal import OnTerminal

COMPARE = [sys.executable, "-m", "syncbn.cli", "compare", "--seeds", "500", "--epochs", "1"]
TINY = ["--train-samples", "256", "--test-samples", "100", "--batches", "2,16", "--norms", "bn,syncbn"]


def processes(word: str) -> dict[int, str]:
    """Return the command lines of all processes that have this word in it, by number."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        if word in text:
            found[int(path.parent.name)] = text
    return found


CODES = {"Ctrl-C": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGKILL": -9, "SIGQUIT": -3}


@pytest.mark.parametrize(
    ("ranks", "how"),
    [
        *((ranks, how) for ranks in (1, 2, 4) for how in ("Ctrl-C", "SIGTERM", "SIGKILL")),
        (1, "SIGHUP"),  # of which UCX would take possession
        (2, "SIGQUIT"),
    ],
)
def test_an_interrupted_comparison(tmp_path: Path, ranks: int, how: str) -> None:
    output, temporary = tmp_path / "output", tmp_path / "temporary"
    temporary.mkdir()
    file = output / "compare.json"
    command = OnTerminal([*COMPARE, *TINY, "--ranks", str(ranks), "--output", str(output)], TMPDIR=str(temporary))
    command.read_until(file.exists)
    assert ranks == 1 or list(temporary.iterdir())
    if how == "Ctrl-C":
        os.write(command.terminal, b"\x03")
    else:
        os.kill(command.pid, getattr(signal, how))
    code = command.wait()
    assert code == CODES[how]
    deadline = time.monotonic() + 10
    while left := processes(str(output)):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert not list(temporary.iterdir())
    assert list(output.iterdir()) == [file]
    found = json.loads(file.read_text())
    assert found["complete"] is False
    assert b"runs" in command.shown  # the bar
    assert b"\x1b[?25l" not in command.shown  # a killed process could not show the cursor again
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", command.shown.decode())
    assert not re.search("Traceback|TERMINAT", text)
    if code > 0:
        last = text.replace("\r", "\n").strip().splitlines()[-1]
        assert last == f"syncbn compare: interrupted; complete runs: {len(found['runs'])}, saved in {file}"


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    output = tmp_path / "output"
    command = OnTerminal([*COMPARE, *TINY, "--ranks", "2", "--output", str(output)])
    command.read_until((output / "compare.json").exists)
    os.write(command.terminal, b"\x03")
    time.sleep(0.05)
    os.write(command.terminal, b"\x03")
    assert command.wait() in (130, -signal.SIGINT)
    deadline = time.monotonic() + 10
    while left := processes(str(output)):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert b"TERMINAT" not in command.shown


def test_a_measurement_ends_with_its_command(tmp_path: Path) -> None:
    """The worker process of a measurement, too, does not outlive the command."""
    command = OnTerminal([sys.executable, "-m", "syncbn.cli", "bench", "--ranks", "1"], TMPDIR=str(tmp_path))
    worker = "syncbn.cli.worker kernels"  # of this command, not of another one on this machine
    command.read_until(lambda: processes(worker).keys() & descendants(command.pid))
    own = processes(worker).keys() & descendants(command.pid)
    os.kill(command.pid, signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while left := own & processes(worker).keys():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
