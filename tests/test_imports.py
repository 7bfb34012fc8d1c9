"""The packages inside syncbn import each other by the dependency rule, and ``import syncbn`` needs only NumPy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "syncbn"

ALLOWED_IMPORTS: dict[str, set[str]] = {
    "cli": {"experiments"},
    "experiments": {"monitor", "data"},
    "jax": {"functional", "layers", "comm", "moments"},
    "keras": {"torch", "jax", "comm"},
    "monitor": {"train"},
    "onnx": {"nn", "files"},
    "torch": {"functional", "layers", "comm", "moments"},
    "train": {"nn", "comm", "files"},
    "nn": {"layers"},
    "layers": {"functional", "comm", "moments"},
    "functional": {"_core", "comm", "moments"},
    "_core": {"_kernels", "reference", "moments"},
    "comm": {"moments", "_core"},
    "data": {"files"},
    "files": set(),
    "pitfalls": set(),
    "other_libraries": set(),
    "moments": set(),
    "reference": set(),
    "typing": set(),
    "_kernels": set(),
}
"""Packages (or modules) that each package may import, besides those that these may import, `typing`, `pitfalls`
and `other_libraries`."""

ALLOWED_IMPORTERS = {"_kernels": {"_core", "comm"}}
"""Packages that only these packages may import."""

APPLICATIONS = {"cli", "experiments"}
"""Packages that ``import syncbn`` does not load; only they may import names from ``syncbn`` itself."""

BRIDGES = {"jax", "keras", "onnx", "torch"}
"""Packages that ``import syncbn`` does not load; each may import the library of its name at load time."""

LIBRARIES = {
    "mpi4py": {"comm"},
    "scipy": APPLICATIONS,
    "IPython": {"train"},
    "rich": APPLICATIONS | {"train"},
    "matplotlib": APPLICATIONS | {"train", "monitor"},
}
"""Packages that may import each library, inside functions only. NumPy and the standard library are free."""


@cache
def dependencies(package: str) -> frozenset[str]:
    """Return all packages that ``package`` may import, directly or indirectly."""
    found = {package, "typing", "pitfalls", "other_libraries"} | ALLOWED_IMPORTS[package]
    return frozenset(found.union(*map(dependencies, ALLOWED_IMPORTS[package])))


@dataclass(frozen=True)
class Import:
    """One import of a module, by the module's full name."""

    name: str
    line: int
    lazy: bool
    """True inside a function or under ``if TYPE_CHECKING``, where loading the module does not execute it."""


def imports(tree: ast.AST, package: str, lazy: bool = False) -> Iterator[Import]:
    """Yield the imports of a module in ``package``, including those in functions and conditions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *filter(None, [node.module])])
            yield from (Import(f"{base}.{alias.name}", node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from imports(ast.Module(node.body, []), package, True)
            yield from imports(ast.Module(node.orelse, []), package, lazy)
        else:
            yield from imports(node, package, lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def violations(path: str, source: str) -> list[str]:
    """Return the imports of ``source``, the module at ``path`` inside syncbn, that break the dependency rule."""
    parts = Path(path).with_suffix("").parts
    package = parts[0]
    if package not in {*ALLOWED_IMPORTS, "__init__", "__main__"}:
        return [f"{path}: {package} is not in the dependency rule"]
    parent = ".".join(["syncbn", *parts[:-1]])
    found = [(each.line, problem(package, each)) for each in imports(ast.parse(source), parent)]
    return [f"{path}:{line}: {text}" for line, text in found if text]


def problem(package: str, found: Import) -> str:
    """Return what is wrong with the import, or ""."""
    top, *rest = found.name.split(".")
    if top == "syncbn":
        return internal_problem(package, rest[0] if rest else "")
    if top == package and package in BRIDGES:
        return ""
    if top in LIBRARIES:
        if package not in LIBRARIES[top]:
            return f"{package} imports {top}, which only {', '.join(sorted(LIBRARIES[top]))} may"
        return "" if found.lazy else f"{package} imports {top} at load time, not inside a function"
    known = top == "numpy" or top in sys.stdlib_module_names or (top == "typing_extensions" and found.lazy)
    return "" if known else f"{package} imports {top}, which is not a dependency"


def internal_problem(package: str, target: str) -> str:
    """Return what is wrong with the import of ``syncbn.target`` in ``package``, or ""."""
    if target not in ALLOWED_IMPORTS:  # a name that syncbn/__init__.py defines
        allowed = package in APPLICATIONS | {"__main__"}
        return "" if allowed else f"{package} imports from syncbn itself, which imports {package}"
    if package == "__init__":
        targets = set(ALLOWED_IMPORTS) - APPLICATIONS - BRIDGES
    elif package == "__main__":
        targets = {"cli"}
    else:
        targets = set(dependencies(package))
    importers = {target} | ALLOWED_IMPORTERS.get(target, {package})
    if target not in targets or package not in importers:
        return f"{package} imports {target}, against the rule"
    return ""


def test_modules_keep_the_dependency_rule():
    modules = sorted(ROOT.rglob("*.py"))
    assert len(modules) > 20
    found = [v for path in modules for v in violations(str(path.relative_to(ROOT)), path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("layers/bad.py", "import syncbn.nn.dense", "layers imports nn, against the rule"),
        ("layers/bad.py", "from syncbn import nn", "layers imports nn, against the rule"),
        ("comm/bad.py", "from ..layers import BatchNorm", "comm imports layers, against the rule"),
        (
            "data/bad.py",
            "def f():\n    from syncbn.comm import MPIComm",
            "data imports comm, against the rule",
        ),
        (
            "functional/bad.py",
            "from syncbn._kernels import rows",
            "functional imports _kernels, against the rule",
        ),
        ("moments.py", "from syncbn.comm import Communicator", "moments imports comm, against the rule"),
        ("__init__.py", "from syncbn.cli import main", "__init__ imports cli, against the rule"),
        ("nn/bad.py", "from syncbn import BatchNorm", "nn imports from syncbn itself"),
        ("train/bad.py", "def f():\n    from mpi4py import MPI", "train imports mpi4py, which only comm may"),
        ("comm/bad.py", "from mpi4py import MPI", "comm imports mpi4py at load time"),
        ("comm/bad.py", "class A:\n    try:\n        import mpi4py\n    except ImportError: pass", "at load time"),
        ("cli/bad.py", "import rich.table", "cli imports rich at load time"),
        ("train/bad.py", "import matplotlib.pyplot", "train imports matplotlib at load time"),
        ("nn/bad.py", "def f():\n    import matplotlib.pyplot", "nn imports matplotlib, which only"),
        ("layers/bad.py", "import torch", "layers imports torch, which is not a dependency"),
        ("layers/bad.py", "import typing_extensions", "layers imports typing_extensions, which is not a dependency"),
        ("__init__.py", "from syncbn.torch import SyncBatchNorm", "__init__ imports torch, against the rule"),
        ("comm/bad.py", "from syncbn.torch import TorchComm", "comm imports torch, against the rule"),
        ("torch/bad.py", "from syncbn.nn import Dense", "torch imports nn, against the rule"),
        ("torch/bad.py", "import jax", "torch imports jax, which is not a dependency"),
        ("data/bad.py", "import pandas", "data imports pandas, which is not a dependency"),
        ("elsewhere.py", "", "elsewhere is not in the dependency rule"),
    ],
)
def test_a_forbidden_import_is_found(path, source, expected):
    (found,) = violations(path, source)
    assert expected in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("comm/good.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mpi4py import MPI"),
        ("comm/good.py", "def f():\n    from mpi4py import MPI"),
        ("comm/good.py", "from .call import Call\nfrom syncbn.typing import FloatArray\nimport numpy.typing"),
        ("cli/good.py", "from syncbn import __version__\nfrom syncbn.layers import BatchNorm"),
        ("experiments/good.py", "def f():\n    import matplotlib.pyplot\nfrom syncbn.data import load"),
        ("_core/good.py", "from syncbn._kernels import rows"),
        ("__init__.py", "from syncbn.layers import BatchNorm"),
        ("torch/good.py", "import torch.distributed as dist\nfrom syncbn.torch.layer import SyncBatchNorm"),
    ],
)
def test_an_allowed_import_is_not_reported(path, source):
    assert violations(path, source) == []


def run_without(source: str, blocked: str) -> subprocess.CompletedProcess[str]:
    """Run Python code that can import only NumPy, the standard library and syncbn, without ``blocked``."""
    hook = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top == {blocked!r} or not (top in ("syncbn", "numpy") or top in sys.stdlib_module_names):
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Block())
"""
    return subprocess.run(
        [sys.executable, "-c", hook + source], cwd=ROOT.parent, capture_output=True, text=True, check=False
    )


def test_import_syncbn_needs_only_numpy():
    done = run_without(
        "from syncbn import *\nprint({name.partition('.')[0] for name in sys.modules})",
        blocked="",
    )
    assert done.returncode == 0, done.stderr
    for library in ("mpi4py", "matplotlib", "rich", "scipy", "torch"):
        assert repr(library) not in done.stdout


def test_names_are_loaded_at_their_first_use():
    """The command checks environment variables before OpenMP and the kernels read them."""
    code = (
        "import sys, syncbn, syncbn.cli\n"
        "assert 'syncbn._core.kernels' not in sys.modules and 'BatchNorm' in dir(syncbn)\n"
        "assert syncbn.layers.BatchNorm is syncbn.BatchNorm and not hasattr(syncbn, 'Nothing')\n"
        "assert 'syncbn._core.kernels' in sys.modules"
    )
    done = run_without(code, blocked="")
    assert done.returncode == 0, done.stderr


def test_the_import_hook_blocks():
    done = run_without("from syncbn import *", blocked="numpy")
    assert "numpy is blocked" in done.stderr
