"""Evaluation of a model, in which each rank computes its share of the samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_integer, check_unmasked, hint, shown
from syncbn.comm import CommLike
from syncbn.layers import Module
from syncbn.nn import softmax_cross_entropy
from syncbn.train.arguments import check_samples
from syncbn.train.buffers import rank_0_buffers
from syncbn.train.config import describe_data
from syncbn.train.consistency import check_parameters
from syncbn.train.errors import check_model, collective_errors, find_communicator, of_all_ranks
from syncbn.train.order import own_share
from syncbn.typing import FloatArray


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate` over all ranks.

    Attributes
    ----------
    loss : float
        Mean cross-entropy.
    error : float
        Share of samples (0 to 1) whose largest output is not that of their class, or that have an output of NaN.
    samples : int
        Number of samples.

    See Also
    --------
    syncbn.train.evaluate : The function that returns it.

    Examples
    --------
    >>> from syncbn.train import Evaluation
    >>> found = Evaluation(loss=0.5, error=0.25, samples=2000)
    >>> found.accuracy
    0.75
    """

    loss: float
    error: float
    samples: int

    @property
    def accuracy(self) -> float:
        """Share of samples whose largest output is that of their class: 1 − ``error``."""
        return 1.0 - self.error


@of_all_ranks
def evaluate(
    model: Module, x: FloatArray, y: NDArray[np.integer], comm: CommLike = None, *, batch_size: int = 256
) -> Evaluation:
    """Return loss and error of the model in evaluation mode; each rank computes its share of the samples.

    Collective, but the layers send nothing. If running statistics differ between ranks (local batch
    normalization), those of rank 0 are used. Modes and buffers are restored afterwards. With ``comm=SerialComm()``
    one rank evaluates alone, on all samples.

    Parameters
    ----------
    model : Module
        Model that returns logits of shape (N, K).
    x : ndarray, shape (N, ...)
        All samples, equal on all ranks.
    y : ndarray of integers, shape (N,)
        Class numbers, 0 to K−1.
    comm : CommLike
        Ranks that share the samples. None is the communicator of the model's synchronized layers if all processes
        belong to it, or else COMM_WORLD; without mpi4py, this process alone.
    batch_size : int
        Number of samples of one forward.

    Raises
    ------
    ValueError, TypeError
        Samples or labels do not fit the model or each other.
    ParameterMismatchError
        Ranks have different parameters, and these are not the random ones of a new model.
    SyncMismatchError
        Another rank has raised one of these errors.

    See Also
    --------
    syncbn.train.predict : The outputs of the network.
    syncbn.train.Evaluation : The result.

    Examples
    --------
    >>> from syncbn import SyncBatchNorm, data, nn, train
    >>> images = data.prepare(data.load(), flat=True)
    >>> model = nn.Sequential(nn.Dense(784, 16), SyncBatchNorm(16), nn.ReLU(), nn.Dense(16, 10))
    >>> found = train.evaluate(model, images.x_test, images.y_test)
    >>> found.samples, 0 <= found.error <= 1
    (2000, True)
    """
    comm = find_communicator(comm, model)
    totals = np.zeros(2)
    with collective_errors(comm, "evaluation"):
        check_model(model)
        check_samples(x, y)
        check_integer("batch_size", batch_size)
        if not len(x):
            raise ValueError("evaluation needs at least one sample")
        samples = describe_data(x, y)
    if any(comm.allgather(any(p.version for p in model.parameters()))):  # not of a new model
        check_parameters(model, comm)
    with rank_0_buffers(model, comm), collective_errors(comm, "evaluation", **samples), model.evaluating():
        own = own_share(len(x), comm.rank, comm.size)
        for start in range(own.start, own.stop, batch_size):
            part = slice(start, min(start + batch_size, own.stop))
            logits, _ = model(x[part])
            loss, _ = softmax_cross_entropy(logits, y[part], 1.0)
            totals[0] += loss
            totals[1] += count_wrong(logits, y[part])
    comm.allreduce(totals)
    return Evaluation(float(totals[0]) / len(x), float(totals[1]) / len(x), len(x))


def predict(model: Module, x: FloatArray, *, batch_size: int = 256) -> FloatArray:
    """Return the outputs of the model in evaluation mode, whose modes are restored afterwards.

    Not collective: one rank or several may call it. For the logits of a classifier, ``argmax(axis=1)`` is the class.

    Parameters
    ----------
    model : Module
    x : ndarray, shape (N, ...)
    batch_size : int
        Number of samples of one forward.

    Raises
    ------
    ValueError, TypeError
        Samples do not fit the model.

    See Also
    --------
    syncbn.train.evaluate : Loss and error.

    Examples
    --------
    >>> from syncbn import SyncBatchNorm, data, nn, train
    >>> images = data.prepare(data.load(), flat=True)
    >>> model = nn.Sequential(nn.Dense(784, 16), SyncBatchNorm(16), nn.ReLU(), nn.Dense(16, 10))
    >>> logits = train.predict(model, images.x_test[:8])
    >>> logits.shape
    (8, 10)
    >>> classes = logits.argmax(axis=1)
    """
    check_model(model)
    check_unmasked(x, "x")
    check_integer("batch_size", batch_size)
    if not getattr(x, "shape", ()):
        raise TypeError(f"predict expects an array of samples, of shape (N, ...), got {shown(x)}{hint(x)}")
    try:
        with model.evaluating():  # without samples, one forward still gives the shape of the outputs
            outputs = [model(x[start : start + batch_size])[0] for start in range(0, max(len(x), 1), batch_size)]
    except ValueError as error:
        raise ValueError(
            f"predict expects samples of shape (N, ...) that fit the network, one sample as x[None], got {x.shape}: "
            f"{error}"
        ) from error
    return np.concatenate(outputs)


def count_wrong(logits: FloatArray, labels: NDArray[np.integer]) -> int:
    """Return the number of samples whose largest logit is not that of their class, or that have a logit of NaN."""
    wrong = (logits.argmax(axis=1) != labels) | np.isnan(logits).any(axis=1)
    return int(np.count_nonzero(wrong))
