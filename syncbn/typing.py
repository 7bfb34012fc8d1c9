"""The array and closure types that signatures use."""

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
"""What a layer returns beside y: takes dL/dy, adds to each parameter's ``grad``, returns dL/dx."""
