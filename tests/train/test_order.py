from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbn.train import DataOrder, shard


@given(samples=st.integers(0, 40), size=st.integers(1, 12))
def test_shards_are_those_of_array_split(samples, size):
    indices = np.arange(samples)
    for rank, expected in enumerate(np.array_split(indices, size)):
        np.testing.assert_array_equal(indices[shard(samples, rank, size)], expected)


@given(samples=st.integers(1, 60), global_batch=st.integers(1, 20), seed=st.integers(0, 9), epoch=st.integers(0, 5))
def test_an_epoch_has_every_sample_once(samples, global_batch, seed, epoch):
    order = DataOrder(samples, global_batch, seed)
    batches = list(order.batches(epoch))
    assert len(batches) == order.steps
    assert {len(batch) for batch in batches[:-1]} <= {global_batch}
    assert 0 < len(batches[-1]) <= global_batch
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(samples))


def test_the_order_depends_on_seed_and_epoch_alone():
    def whole(global_batch, seed, epoch):
        return np.concatenate(list(DataOrder(100, global_batch, seed).batches(epoch))).tolist()

    assert whole(8, 3, 1) == whole(32, 3, 1) == whole(100, 3, 1)
    assert len({tuple(whole(8, seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_the_order_is_the_same_in_every_version():
    # A checkpoint holds positions in this order: it must not change.
    assert DataOrder(10, 10, 0).batches(0).__next__().tolist() == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]


def test_starting_in_the_middle():
    order = DataOrder(23, 5, 7)
    for start in range(order.steps + 1):
        for one, other in zip(list(order.batches(2))[start:], order.batches(2, start), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_smaller_last_batch_can_be_left_out():
    kept, dropped = DataOrder(23, 5, 7), DataOrder(23, 5, 7, drop_last=True)
    assert [len(batch) for batch in kept.batches(0)] == [5, 5, 5, 5, 3]
    assert [len(batch) for batch in dropped.batches(0)] == [5, 5, 5, 5]
    assert DataOrder(20, 5, 7, drop_last=True).steps == 4
    with pytest.raises(ValueError, match="at least 5 samples, got 4"):
        DataOrder(4, 5, 0, drop_last=True)
    with pytest.raises(ValueError, match="at least 1 samples, got 0"):
        DataOrder(0, 5, 0)


@pytest.mark.parametrize(("samples", "rank", "size"), [(64, 4, 4), (64, -1, 4), (64, 4, 0), (-1, 0, 1)])
def test_a_rank_that_there_is_not(samples, rank, size):
    with pytest.raises(ValueError, match=f"size - 1, got samples={samples}, rank={rank}, size={size}"):
        shard(samples, rank, size)


def test_the_length_of_an_iterator_is_the_number_of_steps_left():
    batches = DataOrder(23, 5, 0).batches(0, start=2)
    lengths = [len(batches), *(len(batches) for _ in batches)]
    assert lengths == [3, 2, 1, 0]
    assert len(DataOrder(23, 5, 0).batches(0, start=7)) == 0
