"""Values of an array that are chosen by another one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.typing import FloatArray


def select(values: FloatArray, chosen: NDArray[np.bool_]) -> FloatArray:
    """Return ``values`` where ``chosen``, else 0.

    By their bits: a product would make NaN of infinity, and `numpy.where` takes ten times as long.
    """
    bits: np.dtype[Any] = np.dtype(f"i{values.itemsize}")
    all_bits = np.negative(chosen.view(np.int8))  # −1, or 0
    selected: FloatArray = np.bitwise_and(values.view(bits), all_bits).view(values.dtype)
    return selected
