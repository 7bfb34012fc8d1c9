"""Selection of values by a boolean array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.typing import FloatArray


def select(values: FloatArray, selected: NDArray[np.bool_]) -> FloatArray:
    """Return ``values`` where ``selected`` and 0 elsewhere.

    Works on the bits, because a product would give NaN for infinity and `numpy.where` takes ten times as long.
    """
    bits: np.dtype[Any] = np.dtype(f"i{values.itemsize}")
    all_bits = np.negative(selected.view(np.int8))  # −1, or 0
    result: FloatArray = np.bitwise_and(values.view(bits), all_bits).view(values.dtype)
    return result
