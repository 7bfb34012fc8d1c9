"""The rooms of the package import each other only along the arrows, and ``import syncbn`` needs NumPy alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "syncbn"

ARROWS: dict[str, set[str]] = {
    "cli": {"experiments"},
    "experiments": {"train", "data"},
    "train": {"nn", "comm"},
    "nn": {"layers"},
    "layers": {"functional", "comm", "moments"},
    "functional": {"_core", "comm", "moments"},
    "torch": {"functional", "comm"},
    "_core": {"_kernels", "reference"},
    "comm": {"moments", "_core"},
    "data": set(),
    "moments": set(),
    "reference": set(),
    "typing": set(),
    "_kernels": set(),
}
"""Room: the rooms that it may import, with all that these may, and `typing`, which stands below all."""

DOORS = {"_kernels": {"_core", "comm"}}
"""Rooms that only these may enter, wherever the arrows lead."""

FRONT = {"cli", "experiments", "torch"}
"""Rooms that ``import syncbn`` does not load; only they may in turn import from ``syncbn`` itself."""

LIBRARIES = {
    "mpi4py": {"comm"},
    "torch": {"torch"},
    **dict.fromkeys(("rich", "matplotlib", "scipy"), FRONT - {"torch"}),
}
"""Library: the rooms that may import it. NumPy and the standard library are free."""

EAGER = {"torch"}
"""Libraries that need not wait for a function to be called: `syncbn.torch` is nothing without them."""


@cache
def reachable(room: str) -> frozenset[str]:
    """Return the rooms that ``room`` may import."""
    found = {room, "typing"} | ARROWS[room]
    return frozenset(found.union(*(reachable(other) for other in ARROWS[room])))


@dataclass(frozen=True)
class Import:
    """One imported module, written out in full."""

    name: str
    line: int
    lazy: bool
    """Inside a function or under ``if TYPE_CHECKING``: not done when the module is loaded."""


def imports(tree: ast.AST, package: str, lazy: bool = False) -> Iterator[Import]:
    """Yield the imports of a module in ``package``, in functions and conditions too."""
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
    """Return the imports of ``source``, the module at ``path`` inside the package, that break the rule."""
    parts = Path(path).with_suffix("").parts
    room = "torch" if parts[0].startswith("torch") else parts[0]
    if room not in {*ARROWS, "__init__", "__main__"}:
        return [f"{path}: {room} is in no room"]
    package = ".".join(["syncbn", *parts[:-1]])
    problems = (problem(room, found) for found in imports(ast.parse(source), package))
    return [f"{path}:{found.line}: {text}" for found, text in problems if text]


def problem(room: str, found: Import) -> tuple[Import, str]:
    """Return the import and what is wrong with it ("" for nothing)."""
    top, *rest = found.name.split(".")
    if top == "syncbn":
        return found, room_problem(room, rest[0] if rest else "")
    if top in LIBRARIES:
        if room not in LIBRARIES[top]:
            return found, f"{room} imports {top}, which only {', '.join(sorted(LIBRARIES[top]))} may"
        return found, "" if found.lazy or top in EAGER else f"{room} imports {top} when it is loaded, not when asked"
    known = top == "numpy" or top in sys.stdlib_module_names
    return found, "" if known else f"{room} imports {top}, which is no dependency"


def room_problem(room: str, target: str) -> str:
    """Return what is wrong with ``room`` importing ``syncbn.target``."""
    if target not in ARROWS:  # a name of the package itself
        return "" if room in FRONT | {"__main__"} else f"{room} imports from syncbn itself, which imports {room}"
    if room == "__init__":
        allowed = set(ARROWS) - FRONT
    elif room == "__main__":
        allowed = {"cli"}
    else:
        allowed = set(reachable(room))
    if target not in allowed or room not in {target, *DOORS.get(target, {room})}:
        return f"{room} imports {target}, against the arrows"
    return ""


def test_modules_import_only_along_the_arrows():
    modules = sorted(PACKAGE.rglob("*.py"))
    assert len(modules) > 20
    found = [v for path in modules for v in violations(str(path.relative_to(PACKAGE)), path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("layers/bad.py", "import syncbn.nn.dense", "layers imports nn, against the arrows"),
        ("layers/bad.py", "from syncbn import nn", "layers imports nn, against the arrows"),
        ("comm/bad.py", "from ..layers import BatchNorm", "comm imports layers, against the arrows"),
        ("data/bad.py", "def f():\n    from syncbn.comm import MPIComm", "data imports comm, against the arrows"),
        ("functional/bad.py", "from syncbn._kernels import rows", "functional imports _kernels, against the arrows"),
        ("moments.py", "from syncbn.comm import Communicator", "moments imports comm, against the arrows"),
        ("__init__.py", "from syncbn.cli import main", "__init__ imports cli, against the arrows"),
        ("nn/bad.py", "from syncbn import BatchNorm", "nn imports from syncbn itself"),
        ("train/bad.py", "def f():\n    from mpi4py import MPI", "train imports mpi4py, which only comm may"),
        ("comm/bad.py", "from mpi4py import MPI", "comm imports mpi4py when it is loaded"),
        ("comm/bad.py", "class A:\n    try:\n        import mpi4py\n    except ImportError: pass", "when it is loaded"),
        ("cli/bad.py", "import rich.table", "cli imports rich when it is loaded"),
        ("train/bad.py", "def f():\n    import matplotlib.pyplot", "train imports matplotlib, which only"),
        ("layers/bad.py", "import torch", "layers imports torch, which only torch may"),
        ("data/bad.py", "import pandas", "data imports pandas, which is no dependency"),
        ("elsewhere.py", "", "elsewhere is in no room"),
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
        ("torch/good.py", "import torch.nn\nfrom syncbn.functional import batch_norm"),
        ("_core/good.py", "from syncbn._kernels import rows"),
        ("__init__.py", "from syncbn.layers import BatchNorm"),
    ],
)
def test_an_allowed_import_is_not_reported(path, source):
    assert violations(path, source) == []


def run_without(source: str, blocked: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in which only NumPy, the standard library and (if not ``blocked``) syncbn can be imported."""
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
        [sys.executable, "-c", hook + source], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )


def test_import_syncbn_needs_numpy_alone():
    done = run_without(
        "import syncbn\nprint({name.partition('.')[0] for name in sys.modules})",
        blocked="",
    )
    assert done.returncode == 0, done.stderr
    for library in ("mpi4py", "matplotlib", "rich", "scipy", "torch"):
        assert repr(library) not in done.stdout


def test_the_import_hook_blocks():
    done = run_without("import syncbn", blocked="numpy")
    assert "numpy is blocked" in done.stderr
