"""One namespace of all kernels: those compiled for an instruction set, or their reference implementations."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from inspect import isfunction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from syncbn._core.environment import SettingError
from syncbn.pitfalls import see

_NOT_BUILT = (
    "syncbn's compiled modules are missing ({}): build them with `pip install .`, which needs a C and a C++ compiler{}"
    + see("compiled-modules")
)
_ROOT = Path(__file__).parents[2]
_IN_CLONE = (
    ". Python has imported the sources in {}, where nothing is compiled: from another directory, `import syncbn` finds "
    "the package that is installed; `pip install --editable .` compiles here"
)


def available() -> list[str]:
    """Return the names of the compiled kernels that this processor can run, the fastest first."""
    names = compiled("processor").instruction_sets()
    return [name for name in names if find_spec(f"syncbn._kernels.kernels_{name}")]


def compiled(name: str) -> Any:
    """Return a compiled module."""
    try:
        return import_module(f"syncbn._kernels.{name}")
    except ModuleNotFoundError as error:
        clone = _IN_CLONE.format(_ROOT) if (_ROOT / "setup.py").exists() else ""
        raise ImportError(_NOT_BUILT.format(error, clone)) from error


def load_kernels(which: str) -> SimpleNamespace:
    """Return the kernels named by ``which``: one of `available`, or "reference"."""
    if which == "reference":
        reference = vars(_public(import_module("syncbn.reference")))
        quiet = np.errstate(all="ignore")  # as compiled kernels are: infinities and NaN of the results say it
        return SimpleNamespace(**{name: quiet(value) for name, value in reference.items() if isfunction(value)})
    if which not in available():
        choices = ", ".join([*available(), "reference"])
        raise SettingError(
            f"SYNCBN_KERNELS must be one of {choices} on this processor, got {which!r}{see('compiled-modules')}"
        )
    return _public(compiled(f"kernels_{which}"))


def _public(module: ModuleType) -> SimpleNamespace:
    return SimpleNamespace(**{name: value for name, value in vars(module).items() if not name.startswith("_")})


which = os.environ.get("SYNCBN_KERNELS") or available()[0]
kernels = load_kernels(which)
