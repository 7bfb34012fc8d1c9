"""NaN or infinity in one value makes its channel non-finite on all ranks and keeps the bits of the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exact.batches import Batch, normalized, running
from exact.bits import assert_same_bits

pytestmark = pytest.mark.ranks

CHANNELS, BAD = 5, 2
OTHERS = [c for c in range(CHANNELS) if c != BAD]

cases = given(
    seed=st.integers(0, 2**32 - 1),
    trailing=st.sampled_from([(), (7,), (5, 4)]),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    value=st.sampled_from([np.nan, -np.nan, np.inf, -np.inf]),
    last=st.booleans(),
    masked=st.sampled_from([0.0, 0.4]),
)


def own_share(comm, seed, trailing, dtype, masked, last):
    """Return the share of this rank, the rank of the non-finite value and its index there."""
    rng = np.random.default_rng(seed)
    batch = Batch.random(rng, (3 * comm.size, CHANNELS, *trailing), dtype, ("offset", "normal"), masked=masked)
    index = (3 * int(rng.integers(comm.size)), BAD, *(0 for _ in trailing))  # the mask selects it
    if batch.mask is not None:
        batch.mask.reshape(len(batch.x), -1)[:, 0] = True
    mine = slice(3 * comm.rank, 3 * comm.rank + 3)
    return batch.share(mine, channels_last=last), index[0] // 3, (0, *index[1:])


def channels(results, which):
    return {name: a[:, which] if a.ndim > 1 else a[which] for name, a in results.items() if name != "count"}


def assert_only_the_bad_channel_changes(results, clean, lost):
    assert_same_bits(channels(results, OTHERS), channels(clean, OTHERS))
    bad = channels(results, BAD)
    assert {name for name, a in bad.items() if np.isnan(a).all()} == lost


@cases
def test_a_bad_value_of_x(comm, seed, trailing, dtype, value, last, masked):
    share, rank, index = own_share(comm, seed, trailing, dtype, masked, last)
    clean, clean_running = normalized(share, comm), running([share, share], 0.1, comm)
    modified = replace(share, x=share.x.copy(order="K"))
    if comm.rank == rank:
        modified.x[index] = value
    results, statistics = normalized(modified, comm), running([modified, share], 0.1, comm)
    assert_only_the_bad_channel_changes(results, clean, {"y", "dx", "mean", "var"})
    assert_same_bits(channels(statistics, OTHERS), channels(clean_running, OTHERS))
    assert np.isnan([statistics["running_mean"][BAD], statistics["running_var"][BAD]]).all()


@cases
def test_a_bad_value_of_dy(comm, seed, trailing, dtype, value, last, masked):
    share, rank, index = own_share(comm, seed, trailing, dtype, masked, last)
    clean = normalized(share, comm)
    modified = replace(share, dy=share.dy.copy(order="K"))
    if comm.rank == rank:
        modified.dy[index] = value
    results = normalized(modified, comm)
    assert not np.isnan(results["y"]).any()
    if masked:  # gradients of unselected elements have only the direct term
        results["dx"] = np.where(np.expand_dims(share.mask, 1), results["dx"], np.array(np.nan, results["dx"].dtype))
        clean["dx"] = np.where(np.expand_dims(share.mask, 1), clean["dx"], np.array(np.nan, clean["dx"].dtype))
    assert_only_the_bad_channel_changes(results, clean, {"dx"})
