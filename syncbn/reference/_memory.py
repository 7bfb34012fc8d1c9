"""Memory orders and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MaskArray = NDArray[np.uint8]
NO_MASK: MaskArray = np.zeros((0, 0), np.uint8)
"""A mask that selects all values."""


def channels_first(a_nsc: NDArray[Any]) -> NDArray[Any]:
    """Return a view of channels-last memory as (N, C, S)."""
    return np.swapaxes(a_nsc, 1, 2)
