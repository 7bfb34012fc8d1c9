"""Equality of bits: −0 differs from 0, and all NaNs are equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def bits(a: Array) -> bytes:
    """Return the bits of the array ``a`` in C order."""
    return (np.where(np.isnan(a), np.array(np.nan, a.dtype), a) if a.dtype.kind == "f" else a).tobytes()


def same_bits(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)


def assert_same_bits(actual: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    """Assert that arrays of equal names have equal dtypes, shapes and bits."""
    assert actual.keys() == expected.keys()
    for name, a in actual.items():
        b = expected[name]
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        if not same_bits(a, b):
            unequal = (a != b) & ~(np.isnan(a) & np.isnan(b)) | (np.signbit(a) != np.signbit(b))
            raise AssertionError(f"{name}: {unequal.sum()} of {a.size} differ: {a[unequal]} against {b[unequal]}")
