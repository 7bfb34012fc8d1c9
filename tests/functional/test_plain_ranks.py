"""The short way of plain arrays on some ranks and the general way on others: one call, the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import functional as F
from syncbn._dispatch import plain
from syncbn._dispatch.kernels import which

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.skipif(which == "reference", reason="kernels are their twins, which have no short way"),
]

SHAPES = {"dense": (3, 5), "one row": (1, 5), "images": (2, 4, 3, 3)}


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
