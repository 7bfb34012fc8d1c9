"""Types of arrays and functions that signatures use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
Float64Array: TypeAlias = NDArray[np.float64]
Int64Array: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

Backward: TypeAlias = Callable[[FloatArray], FloatArray]
"""The backward of a layer: it adds to the ``grad`` of each parameter and returns dL/dx, given dL/dy."""
