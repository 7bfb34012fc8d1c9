"""The short way of plain arrays on some ranks and the general way on others: one call, the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import MPIComm, SyncMismatchError
from syncbn import functional as F
from syncbn._core import plain
from syncbn._core.kernels import which
from syncbn._core.ranks import RankKernels

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.skipif(which == "reference", reason="kernels are their twins, which have no short way"),
]

SHAPES = {
    "dense": (3, 5),
    "one row": (1, 5),
    "images": (2, 4, 3, 3),
    "ranges of their own message": (3, 200),
    "too many to plan": (3, 9000),
}


class UntoldError(Exception):
    """Has no text that can be had."""

    def __str__(self):
        raise ValueError("none")

    def __repr__(self):
        return "UntoldError"


class Ways:
    """Counts which way each forward goes."""

    def __init__(self, short):
        self.short = short
        self.found = []

    def forward(self, *arguments):
        found = self.short.forward(*arguments)
        self.found.append("short" if found else "general")
        return found


@pytest.mark.parametrize("total", [False, True])
@pytest.mark.parametrize("reduction", ["exact", "float64"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_ranks_may_go_different_ways(comm, rng, monkeypatch, shape, dtype, reduction, total):
    x, dy = (rng.standard_normal((2 * comm.size, *SHAPES[shape])) + 5).astype(dtype)[comm.rank :: comm.size]
    weight, bias = rng.standard_normal((2, x.shape[1])).astype(dtype)
    if x.shape[0] * comm.size == 1:
        pytest.skip("one value per channel")
    ways = Ways(plain.ranks)
    monkeypatch.setattr(plain, "ranks", ways)

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
    here = "general" if comm.rank % 2 else "short"
    assert ways.found == ["short", here, "short", "general"]
    for other in others:
        for one, another in zip(first, other, strict=True):
            np.testing.assert_array_equal(one, another)
            if isinstance(one, np.ndarray):
                assert one.dtype == another.dtype


@pytest.mark.parametrize("error", [MemoryError("no memory"), MemoryError(), UntoldError()], ids=repr)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("way", ["short", "general"])
def test_an_error_before_the_first_message_is_told_to_the_others(comm, rng, monkeypatch, way, direction, error):
    """Such as too little memory. Then the next call of all goes on, with the same messages."""
    x = rng.standard_normal((4, 3)).astype(np.float32)
    mask = np.array([True, True, True, False]) if way == "general" else None

    def forward():
        return F.batch_norm(x, mask=mask, comm=comm)

    def raising(*_):
        raise error

    expected = forward()[2](x)[0]
    backward = forward()[2]
    culprit = comm.size - 1
    if comm.rank == culprit and way == "short":
        monkeypatch.setattr(comm._protocol, "sum_buffer", raising)
    elif comm.rank == culprit:
        monkeypatch.setattr(RankKernels, "ranges", raising)
        monkeypatch.setattr(RankKernels, "gradient_ranges", raising)
    what = type(error) if comm.rank == culprit else SyncMismatchError
    with pytest.raises(
        what,
        match=None if comm.rank == culprit else f"rank {culprit} had bad input: (no memory|MemoryError|UntoldError)",
    ):
        forward() if direction == "forward" else backward(x)
    monkeypatch.undo()
    np.testing.assert_array_equal(forward()[2](x)[0], expected)


@pytest.mark.parametrize("bad", [{"x": "x"}, {"relu": np.array([True, False])}, {"eps": -1.0}], ids=str)
def test_bad_input_beside_plain_arrays_is_told_to_the_others(comm, rng, bad):
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
