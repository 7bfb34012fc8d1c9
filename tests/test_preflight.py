"""The check before a build names each program that is missing or too old."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "preflight.sh"


def preflight(python: str = sys.executable, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), python], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def compiler(directory: Path, version: str) -> str:
    """Return a C compiler that calls itself ``version``, such as "gcc 8"."""
    path = directory / "compiler"
    path.write_text(f'#!/bin/sh\nif [ "$1" = -E ]; then echo "{version}"; else exec cc "$@"; fi\n')
    path.chmod(0o755)
    return str(path)


def test_what_is_there_is_not_reported():
    done = preflight(CC="cc", CXX="c++")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CXX": "no-such-compiler"}, "a C++17 compiler ('no-such-compiler' is not)"),
        ({"CC": "no-such-compiler"}, "a C compiler with the C library's headers ('no-such-compiler' is not)"),
    ],
)
def test_a_missing_compiler_is_reported(environment, expected):
    done = preflight(**{"CC": "cc", "CXX": "c++", **environment})
    assert done.returncode == 1
    assert f"missing: {expected}" in done.stderr


@pytest.mark.parametrize(
    ("version", "expected"),
    [("gcc 8", "gcc 9 or newer"), ("clang 13", "clang 14 or newer"), ("gcc 9", ""), ("clang 14", ""), ("other 1", "")],
)
def test_an_old_compiler_is_reported(version, expected, tmp_path):
    done = preflight(CC=compiler(tmp_path, version), CXX="c++")
    assert done.returncode == bool(expected)
    assert expected in done.stderr
    assert bool(done.stderr) == bool(expected)


def test_a_missing_python_is_reported():
    done = preflight("no-such-python")
    assert done.returncode == 1
    assert "Python 3.10 or newer ('no-such-python' is not)" in done.stderr
