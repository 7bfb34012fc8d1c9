"""Error bounds with reduction="float64": those of exact sums plus 2⁻⁷⁵·Σx² in the variance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exact import bounds, rational
from exact.batches import Batch, batches
from syncbn import functional as F

pytestmark = pytest.mark.ranks

NOISE = 2.0**-74
"""Error of the variance relative to Σx²: differences below 2⁻⁷⁵ are treated as rounding; twice this for ranks of
different magnitude."""


@settings(max_examples=30)
@given(st.data(), st.sampled_from(["float16", "float32", "float64"]))
def test_every_kind_of_values(comm, data, dtype):
    kinds = ["normal", "offset", "mixed_scales", "outlier", "cancelling", "signed_zeros", "one_ulp", "constant"]
    batch = data.draw(batches(3, dtype, kinds))
    bounds.assert_bounds(batch, reduction="float64", var_noise=NOISE, comm=comm)


@pytest.mark.parametrize("reduction", ["exact", "float64"])
@pytest.mark.parametrize(("step", "offset"), [(3.0, 1e8), (1e8, 0.0), (0.0, 1e8)])
@pytest.mark.parametrize("samples", [1, 4])
def test_means_of_ranks_that_differ_around_a_large_one(comm, rng, reduction, step, offset, samples):
    """Includes one value per rank, where the variance on each rank is 0."""
    ranks = max(comm.size, 2)
    shape = (samples * ranks, 2) if samples == 1 else (samples * ranks, 2, 5)
    batch = Batch.random(rng, shape, "float64", affine="none")
    of_rank = step * (np.arange(len(batch.x)) % ranks).reshape(-1, *[1] * (batch.x.ndim - 1))
    batch = Batch(batch.x + offset + of_rank, batch.dy, None, None, None, 1e-5)
    noise = NOISE if reduction == "float64" else 0.0
    bounds.assert_bounds(batch, reduction=reduction, var_noise=noise, comm=comm)


def test_differences_below_the_noise_give_a_constant_channel(comm):
    """The control: float64 sums have this error and exact sums do not."""
    x = np.full((8, 1), 1.0)
    x[::2] = np.nextafter(1.0, 2.0)
    exact = rational.batch_norm(x, x, eps=0.0)
    variances = {}
    for reduction in ("exact", "float64"):
        mine = x[comm.rank :: comm.size]
        variances[reduction] = F.batch_norm(mine, eps=0.0, comm=comm, reduction=reduction)[1].var
    assert rational.error(variances["exact"], exact.var) <= 1e-15 * exact.var
    assert variances["float64"] == 0
