"""The source code that determines the numbers of a claim."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from functools import cache
from types import ModuleType
from typing import Any

from syncbn.data import inputs
from syncbn.experiments import compare, config, networks, normalizers, training
from syncbn.experiments.claims import models, searched, setup, sources, work
from syncbn.experiments.claims.claim import Claim

SHARED = (work, models, sources, searched, setup, training, networks, normalizers, compare, config, inputs)
"""Modules with which claims train."""

NOT_MEASURED = {"title", "statement", "question", "method", "rule", "published", "caveats", "conclude", "efforts"}
"""Members of a claim that do not determine the numbers of a piece: its texts, the rule of its verdict, and the settings
of all efforts, of which those in use are part of the name of a piece."""


def source_hash(claim: Claim[Any]) -> str:
    """Return a hash of the source code that determines the numbers of a claim.

    It consists of the claim's module, without `NOT_MEASURED`, and of `SHARED`. Comments, docstrings
    and the layout of the code are left out. The code of layers and kernels is not included.
    """
    return hashlib.sha256("\n".join(map(_code, (sys.modules[type(claim).__module__], *SHARED))).encode()).hexdigest()


@cache
def _code(module: ModuleType) -> str:
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            node.body = [part for part in node.body if not _is_docstring(part)]
        if isinstance(node, ast.ClassDef):
            node.body = [part for part in node.body if not _names(part) & NOT_MEASURED]
    return ast.dump(tree)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _names(node: ast.stmt) -> set[str]:
    """Return the names that a statement of a class defines."""
    if isinstance(node, ast.FunctionDef):
        return {node.name}
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    return {target.id for target in targets if isinstance(target, ast.Name)}
