"""Exact sums over ranks: the bits of one process, for any distribution of the values."""

from __future__ import annotations

import math

import numpy as np
import pytest

import syncbn
from syncbn import SyncMismatchError

pytestmark = pytest.mark.ranks


def spread(rng, size, dtype=np.float64):
    """Return values of very different magnitudes, whose ordinary sum depends on the order."""
    return (rng.standard_normal(size) * 2.0 ** rng.integers(-60, 60, size)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_distribution_over_ranks(comm, rng, dtype):
    values = spread(rng, 999, np.float32).clip(-9e3, 9e3).astype(dtype)
    expected = syncbn.exact_sum(values)
    for part in (
        values[comm.rank :: comm.size],
        np.array_split(rng.permutation(values), comm.size)[comm.rank],
        values if comm.rank == comm.size - 1 else values[:0],  # other ranks have none
        np.array_split(values, comm.size)[comm.rank].reshape(1, -1, 1),  # shapes may differ
    ):
        found = comm.exact_sum(part)
        assert (found, found.dtype) == (expected, dtype)
    if dtype == np.float64:
        assert expected == math.fsum(values)


def test_an_ordinary_sum_depends_on_the_ranks(comm, rng):
    """The negative control."""
    if comm.size == 1:
        pytest.skip("one rank has one sum")
    values, totals = spread(rng, 999), set()
    for _ in range(10):
        own = np.array([np.array_split(rng.permutation(values), comm.size)[comm.rank].sum()])
        comm.allreduce(own)
        totals.add(float(own[0]))
    assert len(totals) > 1


def test_element_by_element(comm, rng):
    """Each element is the sum of its own values alone, rounded once."""
    values = spread(rng, (comm.size, 7, 5))
    found = comm.exact_sum(values[comm.rank], axis=())
    assert found.shape == (7, 5)
    for index in np.ndindex(7, 5):
        assert found[index] == math.fsum(values[(slice(None), *index)])


def test_along_an_axis(comm, rng):
    values = spread(rng, (11, 3), np.float32)
    found = syncbn.exact_sum(np.array_split(values, comm.size)[comm.rank], comm, axis=0)
    np.testing.assert_array_equal(found, syncbn.exact_sum(values, axis=0))
    np.testing.assert_array_equal(found, [np.float32(math.fsum(column)) for column in values.T])


def test_values_that_are_not_finite_stay_in_their_element(comm, rng):
    values = spread(rng, (comm.size, 4))
    values[0, 1], values[-1, 2], values[-1, 3] = np.nan, np.inf, -np.inf
    found = comm.exact_sum(values[comm.rank], axis=())
    np.testing.assert_array_equal(found, [math.fsum(values[:, 0]), np.nan, np.inf, -np.inf])
    assert math.isnan(comm.exact_sum(np.array(np.inf if comm.rank else -np.inf))) == (comm.size > 1)


def test_no_rank_has_values(comm):
    assert comm.exact_sum(np.empty(0, np.float32)) == 0
    assert comm.exact_sum(np.zeros(3)) == 0


def test_an_error_of_one_rank_reaches_all(comm):
    wrong = comm.rank == comm.size - 1
    for good, bad in (
        (lambda: comm.exact_sum(np.ones(3)), lambda: comm.exact_sum(np.ones(3, int))),
        (lambda: syncbn.exact_sum(np.ones(3), comm), lambda: syncbn.exact_sum(np.ones(3), comm, axes=0)),
    ):
        with pytest.raises((TypeError, SyncMismatchError)) as raised:
            (bad if wrong else good)()
        assert wrong or f"rank {comm.size - 1} had bad input" in str(raised.value)
    if comm.size > 1:
        with pytest.raises(SyncMismatchError, match=r"shape of the result \(3,\) against \(4,\)|\(4,\) against \(3,\)"):
            comm.exact_sum(np.ones(3 + wrong), axis=())
        with pytest.raises(SyncMismatchError, match="dtype 'float"):
            comm.exact_sum(np.ones(3, np.float32 if wrong else np.float64))
    assert comm.exact_sum(np.ones(2)) == 2 * comm.size
