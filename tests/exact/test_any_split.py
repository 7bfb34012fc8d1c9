"""Equal bits on ranks and in one process, for every split of the samples and every order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exact.batches import Batch, batches, normalized, of_samples, running, shares_of_gradients
from exact.bits import assert_same_bits, same_bits
from syncbn._core.kernels import which

pytestmark = pytest.mark.ranks

seeds = st.integers(0, 2**32 - 1)


def draw_share(rng, comm, samples):
    """Return the samples of this rank in a random split (uneven, possibly empty) of a random order."""
    edges = [0, *sorted(rng.integers(0, samples + 1, comm.size - 1)), samples]
    return rng.permutation(samples)[edges[comm.rank] : edges[comm.rank + 1]]


@settings(max_examples=8 * settings.default.max_examples)
@given(batches(), seeds)
def test_y_moments_and_dx_have_the_bits_of_one_process(comm, batch, seed):
    rng = np.random.default_rng(seed)
    mine = draw_share(rng, comm, len(batch.x))
    share = batch.share(mine, channels_last=bool(rng.integers(2)))
    assert_same_bits(normalized(share, comm), of_samples(normalized(batch), mine))


@settings(max_examples=3 * settings.default.max_examples)
@given(st.data(), seeds, st.sampled_from([0.1, 1.0, None]))
def test_running_statistics_have_the_bits_of_one_process(comm, data, seed, momentum):
    rng = np.random.default_rng(seed)
    dtype = data.draw(st.sampled_from(["float16", "float32", "float64"]))
    steps = data.draw(st.lists(batches(4, dtype), min_size=3, max_size=3))
    shares = [batch.share(draw_share(rng, comm, len(batch.x))) for batch in steps]
    assert_same_bits(running(shares, momentum, comm), running(steps, momentum))


@settings(max_examples=3 * settings.default.max_examples)
@given(batches(), seeds)
def test_shares_of_dweight_and_dbias_have_equal_bits_in_both_memory_orders(comm, batch, seed):
    mine = draw_share(np.random.default_rng(seed), comm, len(batch.x))
    first, last = (batch.share(mine, channels_last=last) for last in (False, True))
    assert_same_bits(shares_of_gradients(first, comm), shares_of_gradients(last, comm))


def test_float64_sums_do_not_always_have_the_bits_of_one_process(comm, rng):
    """The control: float64 sums change each of the compared arrays."""
    differ = set()
    for _ in range(20):
        batch = Batch.random(rng, (11, 8, 5), "float64", ("offset", "offset"))
        mine = draw_share(rng, comm, len(batch.x))
        own = normalized(batch.share(mine), comm, "float64")
        whole = of_samples(normalized(batch, reduction="float64"), mine)
        differ |= {name for name in own if not same_bits(own[name], whole[name])}
    on_any_rank = set().union(*comm.allgather(differ))
    # On one rank the order of the samples differs. The means of the reference implementation are rounded once.
    assert on_any_rank == {"y", "dx", "var"} | ({"mean"} if which != "reference" else set())
