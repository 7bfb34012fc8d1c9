"""On ranks: the numbers by which the losses of a loop of the user's own are divided."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from own_loop import N, several

from syncbn.comm.errors import is_repeated
from syncbn.nn import mean_squared_error, softmax_cross_entropy
from syncbn.train import (
    shard,
    sum_gradients,
)

pytestmark = pytest.mark.ranks


@pytest.mark.parametrize("normalizer", ["none", "own"])
def test_forgotten_size_of_the_global_batch(comm, loop, normalizer):
    several(comm)
    loop.broadcast()
    loss = loop.backward(None if normalizer == "none" else loop.own.stop - loop.own.start)
    with pytest.raises(ValueError, match=rf"{comm.size} of {comm.size} ranks divided their loss by their own number"):
        sum_gradients(loop.model, comm, loss)
    loop.model.zero_grad()
    loop.step()


@pytest.mark.parametrize("mistake", ["constant", "large", "by rank", "own and one"])
def test_wrong_size_of_the_global_batch(comm, loop, mistake):
    loop.broadcast()
    loop.step()
    normalizer, divisors = {
        "constant": (N + 3, "24"),
        "large": (1e6, r"1e\+06"),
        "by rank": (N + 4 + 5 * comm.rank, ", ".join(["25", "30", "35"][: comm.size])),
        "own and one": (loop.own.stop - loop.own.start + 1, {1: "22", 2: "12, 11", 3: "8", 4: "7, 6"}.get(comm.size)),
    }[mistake]
    loss = loop.backward(normalizer)
    text = rf"the loss was divided by {divisors}(, \.\.\.)?, but the ranks have {N} samples in this step\. Pass"
    with pytest.raises(ValueError, match=text) as caught:
        sum_gradients(loop.model, comm, loss)
    assert is_repeated(caught.value) == (comm.rank > 0)
    loop.model.zero_grad()
    loop.step()


def test_the_number_of_ranks_in_place_of_the_samples(comm, loop):
    several(comm)
    loop.broadcast()
    loop.own = slice(0, 5)
    text = rf"divided by {comm.size}, the number of ranks, .* samples of all ranks, {5 * comm.size} in this step"
    with pytest.warns(RuntimeWarning, match=text) if comm.rank == 0 else nullcontext():
        loop.step(comm.size)
    loop.step(comm.size)


def test_a_forgotten_share_is_named_as_a_cause(comm, loop):
    several(comm)
    loop.broadcast()
    loop.own = slice(0, N)
    with pytest.raises(ValueError, match=r"by their own number.*only the own share.*shard\(len\(batch\), comm\.rank"):
        loop.step()


def test_sums_over_one_sample_of_each_rank(comm, loop):
    """A normalizer of 1 is that of a sum, though each rank has one sample; without one, it is a mean of the rank."""
    several(comm)
    loop.broadcast()
    loop.own = slice(comm.rank, comm.rank + 1)
    loop.step(comm.size)
    loop.step(1)
    loss = loop.backward(None)
    with pytest.raises(ValueError, match=rf"{comm.size} of {comm.size} ranks divided their loss by their own number"):
        sum_gradients(loop.model, comm, loss)


def test_several_losses_in_one_step(comm, loop):
    """Two outputs; parts of a batch, one after the other; and sums over more values than samples."""
    loop.broadcast()
    y, backward = loop.model(loop.x[loop.own])
    (_, first), (_, second) = softmax_cross_entropy(y, loop.y[loop.own], N), mean_squared_error(y, 0 * y, N)
    backward(second)
    backward(first)
    sum_gradients(loop.model, comm)
    loop.optimizer.zero_grad()
    for start in (0, 12):
        batch = slice(start, min(start + 12, N))
        part = shard(batch.stop - batch.start, comm.rank, comm.size)
        loop.own = slice(start + part.start, start + part.stop)
        loop.backward()
    sum_gradients(loop.model, comm)
    loop.model.zero_grad()
    logits, backward = loop.model(loop.x[:12])
    _, dlogits = softmax_cross_entropy(np.repeat(logits, 3, axis=0), np.repeat(loop.y[:12], 3), 12 * comm.size)
    backward(dlogits.reshape(12, 3, 3).sum(axis=1))
    sum_gradients(loop.model, comm)


def test_gradients_of_losses_may_be_scaled_on_some_ranks(comm, loop):
    loop.broadcast()
    logits, backward = loop.model(loop.x[loop.own])
    _, dlogits = softmax_cross_entropy(logits, loop.y[loop.own], N)
    backward(dlogits * 0.5 if comm.rank else dlogits)
    sum_gradients(loop.model, comm)
    loop.model.zero_grad()
    loop.step()


@pytest.mark.parametrize("owner", ["model", "optimizer"])
def test_a_step_that_is_given_up_is_not_counted(loop, owner):
    loop.broadcast()
    logits, backward = loop.model(loop.x[loop.own])
    _, dlogits = softmax_cross_entropy(logits, loop.y[loop.own], N + 3)
    backward(dlogits)
    getattr(loop, owner).zero_grad()
    loop.step()


def test_other_normalizers_are_taken(comm, loop):
    """The sum over samples; a mean of which only one rank has samples; and a mean that is not trained with."""
    loop.broadcast()
    loop.step(1)
    loop.own = slice(0, N if comm.rank == 0 else 0)
    loop.step(None)
    loop.own = shard(N, comm.rank, comm.size)
    logits, _ = loop.model(loop.x[loop.own])
    softmax_cross_entropy(logits, loop.y[loop.own])
    loop.step()
