"""Training images: a packaged subset of Fashion-MNIST, all of it, or a directory of idx files or of CIFAR-10."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from syncbn.data.dataset import Dataset
from syncbn.data.errors import DataError
from syncbn.data.idx import read_idx
from syncbn.data.inputs import Inputs, prepare
from syncbn.data.sources import NAMES, load
from syncbn.other_libraries import NAMES as OTHER_NAMES
from syncbn.other_libraries import unknown

__all__ = ["NAMES", "DataError", "Dataset", "Inputs", "load", "prepare", "read_idx"]

if not TYPE_CHECKING:  # so that a type checker reports unknown names

    def __getattr__(name: str) -> Any:
        """Raise AttributeError, which says what to use instead of a well-known name of Keras or PyTorch."""
        raise AttributeError(unknown(f"module {__name__!r}", name, OTHER_NAMES), name=name, obj=sys.modules[__name__])
