"""A training loop of a user's own: a model of each rank's own weights, and the parts of a step."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import SyncBatchNorm
from syncbn.nn import SGD, Dense, ReLU, Sequential, softmax_cross_entropy
from syncbn.train import (
    broadcast_parameters,
    shard,
    sum_gradients,
)

N = 21


class Loop:
    """A model of each rank's own weights, and the parts of a training step on the whole problem."""

    def __init__(self, comm, problem, optimizer=SGD, seed=None):
        rng = np.random.default_rng(comm.rank if seed is None else seed)
        self.comm = comm
        self.x, self.y = problem
        self.model = Sequential(
            Dense(6, 5, rng=rng, dtype=np.float64, bias=False),
            SyncBatchNorm(5, comm=comm, dtype=np.float64),
            ReLU(),
            Dense(5, 3, rng=rng, dtype=np.float64),
        )
        self.optimizer = optimizer(self.model.parameters(), 0.1)
        self.own = shard(N, comm.rank, comm.size)

    def broadcast(self):
        broadcast_parameters(self.model, self.comm)
        return self

    def backward(self, normalizer=N):
        logits, backward = self.model(self.x[self.own])
        loss, dlogits = softmax_cross_entropy(logits, self.y[self.own], normalizer)
        backward(dlogits)
        return loss

    def step(self, normalizer=N):
        loss = sum_gradients(self.model, self.comm, self.backward(normalizer))
        self.optimizer.step()
        self.model.zero_grad()
        return loss


def several(comm):
    if comm.size == 1:
        pytest.skip("needs another rank")
