"""The page about clusters: its scripts are valid, and it quotes what syncbn says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from syncbn.comm.launcher import single_process_problem

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_valid(script):
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert checked.stderr == ""
    assert "[mpi]" not in re.sub("#.*", "", script)


def test_the_output_of_doctor_has_the_lines_of_the_page():
    expected = re.search(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL).group(1).splitlines()
    command = [sys.executable, "-m", "syncbn.cli", "doctor", "--ranks", "2"]
    printed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=40).stdout
    labels = {line.split()[0] for line in printed.splitlines()}
    assert {line.split()[0] for line in expected[:-1]} <= labels
    assert expected[-1] in (ROOT / "syncbn/cli/doctor.py").read_text(encoding="utf-8")


def test_the_quoted_error_is_that_of_the_launcher_check(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "16")
    quoted = re.search(r'"(a launcher started [^"]*)"', " ".join(PAGE.split())).group(1)
    assert quoted in single_process_problem(1)
