"""On ranks: a training loop of the user's own whose ranks do not share the batches of one order, or the data."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from syncbn import SyncBatchNorm, SyncMismatchError
from syncbn.comm.errors import is_repeated
from syncbn.nn import SGD, Dense, Sequential, softmax_cross_entropy
from syncbn.train import DataOrder, broadcast_parameters, evaluate, shard, sum_gradients

pytestmark = pytest.mark.ranks

N, BATCH = 48, 12


@pytest.fixture
def data(rng):
    return rng.standard_normal((N, 6)), rng.integers(0, 3, N)


def train(comm, x, y, order, share, steps=2):
    """Take steps, in which ``share`` returns this rank's slice of the number of samples of a batch."""
    model = Sequential(Dense(6, 5, dtype=np.float64), SyncBatchNorm(5, comm=comm, dtype=np.float64), Dense(5, 3))
    broadcast_parameters(model, comm)
    optimizer = SGD(model.parameters(), 0.1)
    for _, batch in zip(range(steps), order.batches(epoch=0), strict=False):
        own = batch[share(len(batch))]
        logits, backward = model(x[own])
        backward(softmax_cross_entropy(logits, y[own], len(own) * comm.size)[1])
        sum_gradients(model, comm)
        optimizer.step()
        optimizer.zero_grad()


def several(comm):
    if comm.size == 1:
        pytest.skip("needs another rank")


@pytest.mark.parametrize("mistake", ["seed", "samples", "skipped"])
def test_ranks_with_orders_of_their_own(comm, data, mistake):
    several(comm)
    changed = comm.rank == comm.size - 1
    order = DataOrder(N - 1 if changed and mistake == "samples" else N, BATCH, int(changed and mistake == "seed"))
    if mistake == "skipped":
        batches = order.batches(epoch=0, start=int(changed))
        order = type("Skipped", (), {"batches": lambda _, epoch: batches})()  # noqa: ARG005
    text = (
        rf"ranks train on different batches: rank 0 on step 0 of epoch 0 of DataOrder\(.*, rank {comm.size - 1} on step"
    )
    with pytest.raises(ValueError, match=text) as caught:
        train(comm, *data, order, lambda count: shard(count, comm.rank, comm.size))
    assert is_repeated(caught.value) == (comm.rank > 0)


def test_ranks_that_take_the_same_share(comm, data):
    several(comm)
    text = rf"rank 1 of {comm.size} has taken the share of rank 0 of {comm.size}: call shard\(len\(batch\), comm\.rank"
    with pytest.raises(ValueError, match=text):
        train(comm, *data, DataOrder(N, BATCH, 0), lambda count: shard(count, 0, comm.size))


@pytest.mark.parametrize(("seed", "share"), [(True, False), (False, True), (False, False)])
def test_a_list_of_batches_of_which_the_last_is_smaller(comm, data, seed, share):
    several(comm)
    batches = list(DataOrder(N - 2, BATCH, comm.rank if seed else 0).batches(epoch=0))
    order = type("Listed", (), {"batches": lambda _, epoch: batches})()  # noqa: ARG005
    texts = {(True, False): "ranks train on different batches", (False, True): "has taken the share of rank 0"}
    text = texts.get((seed, share))
    with pytest.raises(ValueError, match=text) if text else nullcontext():
        train(comm, *data, order, lambda count: shard(count, 0 if share else comm.rank, comm.size))


def test_ranks_that_divide_the_data_may_have_orders_of_their_own(comm, data):
    own = shard(N, comm.rank, comm.size)
    x, y = (array[own] for array in data)
    train(comm, x, y, DataOrder(len(x), BATCH // comm.size, comm.rank), lambda count: slice(0, count))


def test_evaluation_of_data_that_each_rank_has_divided(comm, data):
    several(comm)
    own = shard(N, comm.rank, comm.size)
    model = Sequential(Dense(6, 3, dtype=np.float64))
    broadcast_parameters(model, comm)
    assert evaluate(model, *data, comm).samples == N
    with pytest.raises(SyncMismatchError, match="labels"):
        evaluate(model, data[0], np.roll(data[1], comm.rank), comm)
    with pytest.raises(SyncMismatchError, match="samples"):
        evaluate(model, *(array[own] for array in data), comm)
