"""Equal bits for every order of the samples and both memory orders, in one process."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exact.batches import batches, normalized, of_samples
from exact.bits import assert_same_bits
from exact.values import values


@settings(max_examples=8 * settings.default.max_examples)
@given(batches(), st.integers(0, 2**32 - 1))
def test_samples_in_another_order_and_memory_have_the_same_bits(batch, seed):
    order = np.random.default_rng(seed).permutation(len(batch.x))
    expected = normalized(batch)
    for last in (False, True):
        assert_same_bits(normalized(batch.share(order, channels_last=last)), of_samples(expected, order))


@pytest.mark.parametrize("kind", ["normal", "offset", "mixed_scales", "cancelling"])
def test_float64_sums_depend_on_order_and_split(rng, kind):
    """The control: sums of these values have rounding errors."""
    x = values(kind, rng, (1000, 1), "float64").ravel()
    by_order = {np.add.accumulate(rng.permutation(x))[-1] for _ in range(20)}
    by_split = {sum(part.sum() for part in np.split(x, [cut])) for cut in range(50, 1000, 50)}
    assert len(by_order) > 1
    assert len(by_split) > 1
