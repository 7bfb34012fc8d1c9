"""Public functions and classes have an example in their docstring, and the examples run, in one process."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_docstrings import BRIDGES, public_objects

PACKAGES = ["layers", "moments", "functional", "comm", "nn", "train", "monitor", "data", "onnx", *BRIDGES]
ROOT = Path(__file__).resolve().parents[1]


def documented(package: str) -> dict[str, object]:
    """Return the objects of a package that have a page in the documentation, by the names of their definitions."""
    page = (ROOT / "docs/api.rst").read_text(encoding="utf-8").split()
    names = {entry.rpartition(".")[2] for entry in page}
    objects = public_objects([importlib.import_module(f"syncbn.{package}")])
    return {name: value for name, value in objects.items() if value.__name__ in names}


def failures(package: str) -> int:
    """Run the examples of a package and return how many fail; doctest reports them."""
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for name, value in documented(package).items():
        for test in doctest.DocTestFinder(recurse=False).find(value, name, globs={}):
            runner.run(test)
    assert runner.tries, f"no examples in syncbn.{package}"
    return runner.failures


def require(package: str) -> None:
    """Skip a test if the library of a bridge is missing."""
    for library in BRIDGES.get(package, [package] if package == "onnx" else []):
        pytest.importorskip(library)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_documented_object_has_an_example(package):
    require(package)
    objects = documented(package)
    assert objects
    assert [name for name, value in objects.items() if "\nExamples\n---" not in inspect.getdoc(value)] == []


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.timeout(300)  # a new process imports PyTorch or Keras, on a machine that may be busy
def test_the_examples_of_a_package_run(package, tmp_path):
    require(package)
    pytest.importorskip("mpi4py")
    pytest.importorskip("matplotlib")
    paths = [str(ROOT), str(ROOT / "tests")]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, package],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(failures(sys.argv[1]))
