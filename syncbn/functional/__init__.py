"""Normalization as functions: each forward returns its own backward."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from syncbn.functional.batch_norm import batch_norm, batch_norm_inference
from syncbn.functional.batch_renorm import batch_renorm
from syncbn.functional.filter_response_norm import filter_response_norm
from syncbn.functional.ghost_batch_norm import ghost_batch_norm
from syncbn.functional.group_norm import group_norm
from syncbn.functional.instance_norm import instance_norm
from syncbn.functional.layer_norm import layer_norm
from syncbn.functional.rms_norm import rms_norm
from syncbn.functional.weight_norm import weight_norm
from syncbn.functional.weight_standardization import weight_standardization
from syncbn.other_libraries import NAMES, unknown

__all__ = [
    "batch_norm",
    "batch_norm_inference",
    "batch_renorm",
    "filter_response_norm",
    "ghost_batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "rms_norm",
    "weight_norm",
    "weight_standardization",
]

if not TYPE_CHECKING:  # so that a type checker reports unknown names

    def __getattr__(name: str) -> Any:
        """Raise AttributeError, which says what to use instead of a well-known name of Keras or PyTorch."""
        raise AttributeError(unknown(f"module {__name__!r}", name, NAMES), name=name, obj=sys.modules[__name__])
