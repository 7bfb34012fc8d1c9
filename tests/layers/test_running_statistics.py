"""The update of running statistics, in compiled code and for arrays of any dtype and memory."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn._core.plans import update_average

VALUES = np.random.default_rng(0).standard_normal(37)
MOMENTUM, FACTOR = 0.1, 8 / 7


def memories(average):
    """Return arrays with these values whose memory differs."""
    strided = np.zeros(2 * average.size, average.dtype)[::2]
    swapped = average.astype(average.dtype.newbyteorder())
    strided[...] = average
    return {"contiguous": average.copy(), "strided": strided, "foreign byte order": swapped}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("memory", ["contiguous", "strided", "foreign byte order"])
def test_the_average_is_rounded_once(dtype, memory):
    average = memories(np.random.default_rng(1).standard_normal(37).astype(dtype))[memory]
    exact = (1 - MOMENTUM) * average.astype(np.float64) + MOMENTUM * (FACTOR * VALUES)
    update_average(average, VALUES, MOMENTUM, FACTOR)
    assert np.array_equal(average, exact.astype(dtype))


def test_values_of_any_memory():
    values = np.repeat(VALUES, 2)[::2]
    average, expected = np.ones(37, np.float32), np.ones(37, np.float32)
    update_average(average, values, MOMENTUM)
    update_average(expected, VALUES, MOMENTUM)
    assert np.array_equal(average, expected)
    assert not np.array_equal(expected, np.ones(37))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_read_only_average_is_not_written(dtype):
    average = np.ones(37, dtype)
    average.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        update_average(average, VALUES, MOMENTUM)
    assert (average == 1).all()


def test_values_beyond_the_dtype_become_infinite():
    average = np.zeros(2, np.float32)
    with np.errstate(all="raise"):
        update_average(average, np.array([1e300, np.nan]), MOMENTUM)
    assert np.isinf(average[0])
    assert np.isnan(average[1])
