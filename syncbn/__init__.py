"""Synchronized batch normalization for CPUs, over MPI, and other normalizers, for NumPy arrays."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from syncbn.other_libraries import NAMES, unknown

if TYPE_CHECKING:
    from syncbn import data as data
    from syncbn import functional
    from syncbn import monitor as monitor
    from syncbn import nn as nn
    from syncbn import train as train
    from syncbn.comm import (
        MPIComm,
        SerialComm,
        SyncError,
        SyncLostRankError,
        SyncMismatchError,
        SyncTimeoutError,
        exact_sum,
    )
    from syncbn.layers import (
        BatchNorm,
        BatchRenorm,
        FilterResponseNorm,
        FrozenBatchNorm,
        GhostBatchNorm,
        GroupNorm,
        InstanceNorm,
        LayerNorm,
        Module,
        Parameter,
        RMSNorm,
        SyncBatchNorm,
        WeightNorm,
        WeightStandardization,
    )
    from syncbn.moments import Moments

__version__ = "0.1.0"

__all__ = [
    "BatchNorm",
    "BatchRenorm",
    "FilterResponseNorm",
    "FrozenBatchNorm",
    "GhostBatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "MPIComm",
    "Module",
    "Moments",
    "Parameter",
    "RMSNorm",
    "SerialComm",
    "SyncBatchNorm",
    "SyncError",
    "SyncLostRankError",
    "SyncMismatchError",
    "SyncTimeoutError",
    "WeightNorm",
    "WeightStandardization",
    "exact_sum",
    "functional",
]


_MODULES = ("functional", "comm", "layers", "moments")
"""Modules with the public names."""

_PACKAGES = (*_MODULES, "data", "monitor", "nn", "train")
"""Modules that need no ``import`` of their own."""


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: the command checks the environment before it loads the kernels."""
    if name in _PACKAGES:
        return import_module(f"syncbn.{name}")
    if name not in __all__:
        advice = {**_names_of_packages(name), **NAMES}
        raise AttributeError(unknown(f"module {__name__!r}", name, advice), name=name, obj=sys.modules[__name__])
    modules = (import_module(f"syncbn.{module}") for module in _MODULES)
    value = globals()[name] = next(getattr(module, name) for module in modules if hasattr(module, name))
    return value


def _names_of_packages(name: str) -> dict[str, str]:
    """Return which package has this name, as the advice for it."""
    found = [package for package in _PACKAGES if name in getattr(import_module(f"syncbn.{package}"), "__all__", ())]
    return {name: f"use syncbn.{found[0]}.{name}"} if found else {}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
