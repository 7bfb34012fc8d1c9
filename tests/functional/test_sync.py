"""Synchronized batch normalization on several ranks against one process with all samples; its bits: tests/exact."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import SyncMismatchError
from syncbn import functional as F

pytestmark = pytest.mark.ranks


def random_batch(rng, shape, dtype=np.float32, offset=0.0):
    x = (rng.standard_normal(shape) + offset).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[1])).astype(dtype)
    return x, dy, weight, bias


def share(comm, samples, cuts):
    """This rank's slice of the samples, cut at ``cuts`` (one fewer than ranks, sorted)."""
    edges = [0, *cuts, samples]
    return slice(edges[comm.rank], edges[comm.rank + 1])


def draw_cuts(rng, comm, samples):
    return sorted(rng.integers(0, samples + 1, comm.size - 1).tolist())


def test_the_shares_of_dweight_and_dbias_add_up(comm, rng):
    x, dy, weight, bias = random_batch(rng, (9, 4, 3), np.float64, 10.0)
    _, _, whole_backward = F.batch_norm(x, weight, bias)
    _, whole_dweight, whole_dbias = whole_backward(dy)
    mine = share(comm, 9, draw_cuts(rng, comm, 9))
    _, _, backward = F.batch_norm(x[mine], weight, bias, comm=comm)
    _, dweight, dbias = backward(dy[mine])
    for own, total in ((dweight, whole_dweight), (dbias, whole_dbias)):
        comm.allreduce(own)
        np.testing.assert_allclose(own, total, rtol=1e-12)


def test_local_statistics_do_differ(comm, rng):
    """The control: without communication the result is another one, so the equalities above mean something."""
    x, dy, weight, bias = random_batch(rng, (12, 4, 3))
    mine = share(comm, 12, [3 * r for r in range(1, comm.size)])
    whole_y, _, whole_backward = F.batch_norm(x, weight, bias)
    y, _, backward = F.batch_norm(x[mine], weight, bias)
    differs = not np.allclose(y, whole_y[mine], atol=1e-2)
    assert differs == (comm.size > 1)
    assert np.allclose(backward(dy[mine])[0], whole_backward(dy)[0][mine], atol=1e-2) == (comm.size == 1)


@pytest.mark.parametrize("order", ["=", "S"], ids=["native", "swapped"])
@pytest.mark.parametrize("reduction", ["exact", "float64"])
def test_rows_of_other_lengths_on_other_ranks(comm, rng, reduction, order):
    """Batch 4, and rows of 1, 10, 100 … values: statistics are over all values, whatever their shape."""
    shapes = [(4, 3), (4, 3, 2, 5), (4, 3, 100), (4, 3, 1), (4, 3, 10)][: comm.size]
    parts = [rng.standard_normal(shape) + r for r, shape in enumerate(shapes)]
    gradients = [rng.standard_normal(shape) for shape in shapes]
    whole, dy = (
        np.concatenate([part.swapaxes(0, 1).reshape(3, -1) for part in several], axis=1).T.copy()
        for several in (parts, gradients)
    )
    expected_y, expected, expected_backward = F.batch_norm(whole, reduction=reduction)
    expected_dx = expected_backward(dy)[0]
    start = 4 * sum(part[0, 0].size for part in parts[: comm.rank])

    x = parts[comm.rank].astype(parts[comm.rank].dtype.newbyteorder(order))
    y, moments, backward = F.batch_norm(x, comm=comm, reduction=reduction)
    dx = backward(gradients[comm.rank])[0]
    assert moments.count == len(whole)
    np.testing.assert_allclose(moments.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(moments.var, expected.var, rtol=1e-12)
    for mine, everywhere in ((y, expected_y), (dx, expected_dx)):
        flat = mine.swapaxes(0, 1).reshape(3, -1).T
        np.testing.assert_allclose(flat, everywhere[start : start + len(flat)], rtol=1e-11, atol=1e-11)


def test_one_sample_on_each_rank_and_empty_ranks(comm, rng):
    x, dy, _, _ = random_batch(rng, (comm.size + 1, 4))
    whole_y, _, whole_backward = F.batch_norm(x)
    for cuts in ([*range(1, comm.size)], [0] * (comm.size - 1), [len(x)] * (comm.size - 1)):
        mine = share(comm, len(x), cuts)
        y, _, backward = F.batch_norm(x[mine], comm=comm)
        np.testing.assert_array_equal(y, whole_y[mine])
        np.testing.assert_array_equal(backward(dy[mine])[0], whole_backward(dy)[0][mine])


def test_all_ranks_empty(comm):
    x = np.zeros((0, 4, 3), np.float32)
    y, moments, backward = F.batch_norm(x, np.ones(4, np.float32), comm=comm)
    assert y.shape == backward(x)[0].shape == x.shape
    assert moments.count == 0


def test_one_value_per_channel_over_all_ranks_is_an_error_on_every_rank(comm):
    x = np.ones((1 if comm.rank == 0 else 0, 3), np.float32)
    with pytest.raises(ValueError, match="more than 1 value per channel over all ranks"):
        F.batch_norm(x, comm=comm)
    with pytest.raises(ValueError, match="mask selects no value of x on any rank"):
        F.batch_norm(np.ones((2, 3)), mask=np.False_, comm=comm)
    rows = 2 if comm.rank == comm.size - 1 else 0
    with pytest.raises(ValueError, match="mask selects no value of x on any rank"):
        F.batch_norm(np.ones((rows, 3)), mask=np.zeros(rows, bool), comm=comm)


def test_many_channels_need_a_longer_message(comm, rng):
    x, dy, _, _ = random_batch(rng, (2 * comm.size, 1500))
    mine = slice(2 * comm.rank, 2 * comm.rank + 2)
    whole_y, _, whole_backward = F.batch_norm(x)
    y, _, backward = F.batch_norm(x[mine], comm=comm)
    np.testing.assert_array_equal(y, whole_y[mine])
    np.testing.assert_array_equal(backward(dy[mine])[0], whole_backward(dy)[0][mine])


def test_groups_of_ranks_have_their_own_statistics(comm, rng):
    x, _, _, _ = random_batch(rng, (3 * comm.size, 4))
    with comm.split(2) as group:
        assert group.size == (2 if comm.rank // 2 < comm.size // 2 else 1)
        first = comm.rank // 2 * 2
        of_group = x[3 * first : 3 * (first + group.size)]
        y, moments, _ = F.batch_norm(x[3 * comm.rank : 3 * comm.rank + 3], comm=group)
        assert moments.count == 3 * group.size
        expected = F.batch_norm(of_group)[0]
        at = 3 * (comm.rank - first)
        np.testing.assert_array_equal(y, expected[at : at + 3])


def test_a_raw_mpi4py_communicator_is_wrapped_once(comm, rng):
    mpi = pytest.importorskip("mpi4py.MPI")
    from syncbn.comm import as_communicator

    raw = mpi.COMM_WORLD
    assert as_communicator(raw) is as_communicator(raw)
    x, _, _, _ = random_batch(rng, (2 * comm.size, 4))
    y, _, _ = F.batch_norm(x[2 * comm.rank : 2 * comm.rank + 2], comm=raw)
    np.testing.assert_array_equal(y, F.batch_norm(x)[0][2 * comm.rank : 2 * comm.rank + 2])


GOOD = np.ones((4, 3, 2), np.float32) * np.arange(4, dtype=np.float32)[:, None, None]


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [
        ({"x": GOOD.astype(int)}, TypeError, "got int64"),
        ({"x": GOOD[0, 0]}, ValueError, "2 or more axes"),
        ({"weight": np.ones(5)}, ValueError, "weight must have shape"),
        ({"mask": np.ones(7, bool)}, ValueError, "mask must be broadcastable"),
        ({"eps": -1.0}, ValueError, "eps must be finite"),
        ({"name": ["a"]}, TypeError, "name must be a str, got list"),
    ],
)
def test_bad_input_on_one_rank_raises_on_all(comm, bad, error, text):
    culprit = comm.size - 1
    arguments = {"x": GOOD, "comm": comm, **(bad if comm.rank == culprit else {})}
    if comm.rank == culprit:
        with pytest.raises(error, match=text):
            F.batch_norm(**arguments)
    else:
        with pytest.raises(SyncMismatchError, match=f"rank {culprit} had bad input: .*{text}"):
            F.batch_norm(**arguments)
    y, _, _ = F.batch_norm(GOOD, comm=comm)  # the communicator works on
    assert y.shape == GOOD.shape


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"x": np.ones((4, 5, 2), np.float32)}, "channels"),
        ({"x": GOOD.astype(np.float64)}, "dtype"),
        ({"eps": 1e-3}, "eps"),
        ({"weight": np.ones(3, np.float32)}, "affine"),
        ({"reduction": "float64"}, "reduction"),
        ({"name": "another layer"}, "layer"),
    ],
)
def test_calls_that_differ_raise_on_all(comm, other, text):
    if comm.size == 1:
        pytest.skip("one rank agrees with itself")
    arguments = {"x": GOOD, "comm": comm, **(other if comm.rank == comm.size - 1 else {})}
    with pytest.raises(SyncMismatchError, match=text):
        F.batch_norm(**arguments)
    assert F.batch_norm(GOOD, comm=comm)[1].count == 8 * comm.size


def test_zero_is_zero_whatever_its_sign(comm):
    for eps in (-0.0, 0.0) if comm.rank == 0 else (0.0, -0.0):
        F.batch_norm(GOOD, comm=comm, eps=eps)


def test_forward_against_backward_and_backwards_out_of_order(comm):
    if comm.size == 1:
        pytest.skip("one rank agrees with itself")
    _, _, first = F.batch_norm(GOOD, comm=comm)
    _, _, second = F.batch_norm(GOOD, comm=comm)
    with pytest.raises(SyncMismatchError, match="backward"):
        first(GOOD) if comm.rank == 0 else F.batch_norm(GOOD, comm=comm)
    with pytest.raises(SyncMismatchError, match=r"the backward of call \d against that of call \d"):
        (first if comm.rank == 0 else second)(GOOD)
    culprit = comm.size - 1
    error = ValueError if comm.rank == culprit else SyncMismatchError
    with pytest.raises(error, match="dy must have y's shape"):
        first(GOOD[:2] if comm.rank == culprit else GOOD)
    assert first(GOOD)[0].shape == GOOD.shape
