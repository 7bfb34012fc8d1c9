"""Loss and error of a model on data that the ranks share out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_integer
from syncbn.comm import CommLike
from syncbn.layers import Module
from syncbn.nn import softmax_cross_entropy
from syncbn.train.buffers import rank_0_buffers
from syncbn.train.config import check_samples
from syncbn.train.errors import collective_errors, find_communicator
from syncbn.train.order import shard
from syncbn.typing import FloatArray


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found, over all ranks.

    Attributes
    ----------
    loss : float
        Mean cross-entropy.
    error : float
        Share of samples (0 to 1) whose largest output is not that of their class.
    samples : int
    """

    loss: float
    error: float
    samples: int


def evaluate(
    model: Module, x: FloatArray, y: NDArray[np.integer], comm: CommLike = None, *, batch_size: int = 256
) -> Evaluation:
    """Return loss and error of the model in evaluation mode, each rank computing its share of the samples.

    Collective. The model communicates nothing. Where running statistics differ between ranks (local
    batch normalization), rank 0's are used. Modes and buffers are afterwards what they were before.

    Parameters
    ----------
    model : Module
        From x to logits of shape (N, K).
    x : ndarray, shape (N, ...)
        All samples, the same on all ranks.
    y : ndarray of integers, shape (N,)
    comm : CommLike
        None: COMM_WORLD, or this process alone without mpi4py.
    batch_size : int
        Samples per forward.

    Raises
    ------
    ValueError, TypeError
        Samples or labels do not fit the model or each other.
    SyncMismatchError
        That happened on another rank.
    """
    comm = find_communicator(comm)
    samples = {"elements": np.size(x), "dtype": str(np.asarray(x).dtype)}
    totals = np.zeros(2)
    with collective_errors(comm, "evaluation", **samples):
        check_samples(x, y)
        check_integer("batch_size", batch_size)
        if not len(x):
            raise ValueError("evaluation needs at least one sample")
    with rank_0_buffers(model, comm), collective_errors(comm, "evaluation", **samples), model.evaluating():
        own = shard(len(x), comm.rank, comm.size)
        for start in range(own.start, own.stop, batch_size):
            part = slice(start, min(start + batch_size, own.stop))
            logits, _ = model(x[part])
            loss, _ = softmax_cross_entropy(logits, y[part], 1.0)
            totals[0] += loss
            totals[1] += np.count_nonzero(logits.argmax(axis=1) != y[part])
    comm.allreduce(totals)
    return Evaluation(float(totals[0]) / len(x), float(totals[1]) / len(x), len(x))
