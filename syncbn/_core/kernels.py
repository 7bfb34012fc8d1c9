"""One namespace of all kernels: those compiled for an instruction set, or their readable twins."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

NAMES = ("batch", "features", "groups", "ranks")

_NOT_BUILT = (
    "syncbn's compiled kernels are not there ({}): build them with `pip install .` (needs a C compiler), "
    "or set SYNCBN_KERNELS=reference to run on the slow NumPy twins."
)


def available() -> list[str]:
    """Return the names of the compiled kernels that this processor can run, the fastest first."""
    return list(compiled("processor").instruction_sets())


def compiled(name: str) -> Any:
    """Return a compiled module."""
    try:
        return import_module(f"syncbn._kernels.{name}")
    except ModuleNotFoundError as error:
        raise ImportError(_NOT_BUILT.format(error)) from error


def load_kernels(which: str) -> SimpleNamespace:
    """Return the kernels named by ``which``: one of `available`, or "reference"."""
    if which == "reference":
        return SimpleNamespace(**_public(import_module("syncbn.reference")))
    if which not in available():
        choices = ", ".join([*available(), "reference"])
        raise ValueError(f"SYNCBN_KERNELS must be one of {choices} on this processor, got {which!r}")
    kernels = SimpleNamespace()
    for name in NAMES:
        vars(kernels).update(_public(compiled(f"{name}_{which}")))
    return kernels


def _public(module: ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


which = os.environ.get("SYNCBN_KERNELS") or available()[0]
kernels = load_kernels(which)
