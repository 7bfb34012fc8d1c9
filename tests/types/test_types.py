"""Type checkers find in a user's program the types of results, and the mistakes of calls."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("expectations.py")
CHECKERS = {
    "mypy": ["mypy", "--strict", "--no-incremental", "--config-file=", "--follow-imports=silent"],
    "pyright": ["pyright"],
}


def errors(checker: str, file: Path) -> dict[int, str]:
    """Return the errors in a file, by line."""
    command = [sys.executable, "-m", *CHECKERS[checker], str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FILE.parents[2])
    found = re.findall(rf"{file.name}:(\d+)(?::\d+)?(?: -|:) error: (.*)", done.stdout)
    assert found or done.returncode == 0, done.stdout + done.stderr
    return {int(line): text for line, text in found}


@pytest.mark.timeout(200)  # a type checker reads all of NumPy
@pytest.mark.parametrize("checker", CHECKERS)
def test_types_of_a_users_program(checker):
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    expected = {n for n, line in enumerate(FILE.read_text().splitlines(), 1) if line.endswith("# error")}
    found = errors(checker, FILE)
    assert len(expected) == 10
    assert found.keys() == expected, "\n".join(f"{line}: {text}" for line, text in sorted(found.items()))
