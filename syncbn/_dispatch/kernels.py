"""One namespace of all kernels: the compiled ones, or their readable twins."""

from __future__ import annotations

import os
from types import ModuleType, SimpleNamespace
from typing import Any

NAMES = ("rows", "exact", "float64", "normalize", "gradients")

_NOT_BUILT = (
    "syncbn's compiled kernels are not there ({}): build them with `pip install .` (needs a C compiler), "
    "or set SYNCBN_KERNELS=reference to run on the slow NumPy twins."
)


def _public(module: ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


def load_kernels(which: str) -> SimpleNamespace:
    """Return the kernels named by ``which``: "compiled" or "reference"."""
    if which == "reference":
        from syncbn import reference

        return SimpleNamespace(**_public(reference))
    if which != "compiled":
        raise ValueError(f"SYNCBN_KERNELS must be 'compiled' or 'reference', got {which!r}")
    from importlib import import_module

    kernels = SimpleNamespace()
    for name in NAMES:
        try:
            module = import_module(f"syncbn._kernels.{name}")
        except ModuleNotFoundError as error:
            raise ImportError(_NOT_BUILT.format(error)) from error
        vars(kernels).update(_public(module))
    return kernels


which = os.environ.get("SYNCBN_KERNELS", "compiled")
kernels = load_kernels(which)
