"""Total dweight and dbias of all ranks, whose exact sums the backward computes for dx."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exact.batches import Batch, batches
from exact.bits import assert_same_bits, same_bits
from syncbn import functional as F

pytestmark = pytest.mark.ranks


def gradients(batch, comm=None, *, total, reduction="exact"):
    _, _, backward = F.batch_norm(
        batch.x, batch.weight, batch.bias, mask=batch.mask, eps=batch.eps, comm=comm, reduction=reduction
    )
    with np.errstate(all="ignore"):
        _, dweight, dbias = backward(batch.dy, total=total)
    return {name: a for name, a in (("dweight", dweight), ("dbias", dbias)) if a is not None}


@settings(max_examples=4 * settings.default.max_examples)
@given(batches(), st.integers(0, 2**32 - 1))
def test_totals_have_the_bits_of_one_process(comm, batch, seed):
    rng = np.random.default_rng(seed)
    mine = np.flatnonzero(rng.integers(0, comm.size, len(batch.x)) == comm.rank)
    assert_same_bits(gradients(batch.share(mine), comm, total=True), gradients(batch, total=False))


def test_sums_of_shares_do_not_always_have_these_bits(comm, rng):
    """The control: allreduced shares and float64 sums differ."""
    differ = {"shares": 0, "float64": 0}
    for _ in range(20):
        batch = Batch.random(rng, (11, 8, 5), "float64")
        share = batch.share(slice(comm.rank, None, comm.size))
        whole = gradients(batch, total=True)
        own = gradients(share, comm, total=False)
        float64 = gradients(share, comm, total=True, reduction="float64")
        for name, a in own.items():
            comm.allreduce(a)
            np.testing.assert_allclose(a, whole[name], rtol=1e-12)
            np.testing.assert_allclose(float64[name], whole[name], rtol=1e-12)
            differ["shares"] += not same_bits(a, whole[name])
            differ["float64"] += not same_bits(float64[name], gradients(batch, total=True, reduction="float64")[name])
    assert [number > 0 for number in differ.values()] == [comm.size > 1] * 2
