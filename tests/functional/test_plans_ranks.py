"""Plans of several ranks: arrays that are converted on some of them, and errors before the handshake."""

from __future__ import annotations

import math

import numpy as np
import pytest

from syncbn import MPIComm, SyncMismatchError
from syncbn import functional as F
from syncbn._core.kernels import kernels
from syncbn.comm.protocol import CAPACITY

pytestmark = pytest.mark.ranks

SHAPES = {
    "dense": (3, 5),
    "one row": (1, 5),
    "images": (2, 4, 3, 3),
    "ranges that do not fit the handshake": (3, 200),
    "more than persistent buffers hold": (3, 9000),
}
"""Shapes of x of each rank."""

LONG = ("ranges that do not fit the handshake", "more than persistent buffers hold")


class UnprintableError(Exception):
    """An exception whose str() fails."""

    def __str__(self):
        raise ValueError("none")

    def __repr__(self):
        return "UnprintableError"


@pytest.mark.parametrize("total", [False, True])
@pytest.mark.parametrize("reduction", ["exact", "float64"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_rank_converts_its_own_arrays(comm, rng, shape, dtype, reduction, total):
    rows, *rest = SHAPES[shape]
    if rows * comm.size * math.prod(rest[1:]) == 1:
        pytest.skip("one value per channel")
    x, dy = (rng.standard_normal((2, rows * comm.size, *rest)) + 5).astype(dtype)[:, comm.rank :: comm.size]
    weight, bias = rng.standard_normal((2, x.shape[1])).astype(dtype)
    assert (1 + 2 * x.shape[1] > CAPACITY) == (shape in LONG)

    def results(order, gradient_order):
        y, moments, backward = F.batch_norm(order(x), weight, bias, comm=comm, reduction=reduction)
        return [y, moments.count, moments.mean, moments.var, *backward(gradient_order(dy), total=total)]

    def as_is(array):
        return array

    def odd_here(array):
        return array.astype(array.dtype.newbyteorder()) if comm.rank % 2 else array

    def odd(array):
        return array.astype(array.dtype.newbyteorder())

    first = results(as_is, as_is)
    others = [results(odd_here, as_is), results(as_is, odd_here), results(odd, odd)]
    for other in others:
        for one, another in zip(first, other, strict=True):
            np.testing.assert_array_equal(one, another)
            if isinstance(one, np.ndarray):
                assert one.dtype == another.dtype


@pytest.mark.parametrize("error", [MemoryError("no memory"), MemoryError(), UnprintableError()], ids=repr)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_an_error_before_the_handshake_reaches_the_others(comm, rng, monkeypatch, direction, error):
    """Such as too little memory. The next call then goes on."""
    x = rng.standard_normal((4, 3)).astype(np.float32)

    def raising(*_):
        raise error

    expected = F.batch_norm(x, comm=comm)[2](x)[0]
    backward = F.batch_norm(x, comm=comm)[2]
    culprit = comm.size - 1
    if comm.rank == culprit:
        monkeypatch.setattr(kernels, "rank_ranges", raising)
        monkeypatch.setattr(kernels, "rank_gradient_ranges", raising)
    with pytest.raises(type(error) if comm.rank == culprit else SyncMismatchError) as raised:
        F.batch_norm(x, comm=comm) if direction == "forward" else backward(x)
    if comm.rank != culprit:
        assert f"rank {culprit} " in str(raised.value)
        assert (str(error) if type(error) is MemoryError and error.args else type(error).__name__) in str(raised.value)
    monkeypatch.undo()
    np.testing.assert_array_equal(F.batch_norm(x, comm=comm)[2](x)[0], expected)


@pytest.mark.parametrize("bad", [{"x": "x"}, {"relu": np.array([True, False])}, {"eps": -1.0}], ids=str)
def test_bad_input_of_one_rank_raises_on_all(comm, rng, bad):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    culprit = comm.size - 1
    arguments = {"x": x, "comm": comm, **(bad if comm.rank == culprit else {})}
    with pytest.raises((TypeError, ValueError) if comm.rank == culprit else SyncMismatchError):
        F.batch_norm(**arguments)
    backward = F.batch_norm(x, comm=comm)[2]
    with pytest.raises(ValueError if comm.rank == culprit else SyncMismatchError, match="dy must have"):
        backward(x[:, :2] if comm.rank == culprit else x)
    assert backward(x)[0].shape == x.shape


def test_a_backward_after_the_end_of_its_communicator_says_so(comm, rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    with MPIComm() as own:
        backward = F.batch_norm(x, comm=own)[2]
    with pytest.raises(ValueError, match="the communicator was freed"):
        backward(x)
    comm.barrier()
