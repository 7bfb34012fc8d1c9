"""The check that all ranks have equal parameters and synchronized running statistics."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.comm import CommLike, Communicator
from syncbn.layers import Module
from syncbn.layers._batch import BatchNormalizer
from syncbn.pitfalls import see
from syncbn.train.errors import check_model, collective_errors, find_communicator, of_all_ranks, raised_by_all


class ParameterMismatchError(RuntimeError):
    """Ranks have different parameters, or running statistics of synchronized layers. Raised on every rank.

    The message has the ranks and the name of the first array that differs.

    See Also
    --------
    syncbn.train.check_parameters : Raises it.

    Examples
    --------
    >>> from syncbn import nn
    >>> from syncbn.train import ParameterMismatchError, check_parameters
    >>> try:
    ...     check_parameters(nn.Dense(4, 2))
    ... except ParameterMismatchError as error:  # if ranks have different values
    ...     print(error)
    """


@of_all_ranks
def check_parameters(model: Module, comm: CommLike = None) -> None:
    """Raise unless all parameters, and the running statistics of synchronized layers, have the same bits on all ranks.

    Collective. Other buffers aren't compared: the running statistics of local batch normalization differ. All NaN count
    as equal, because training that diverges gives NaN of other bits on each rank.

    Parameters
    ----------
    model : Module
    comm : CommLike
        Ranks to compare. None means the communicator of the model's synchronized layers if all processes belong to
        it, or else COMM_WORLD; without mpi4py, this process only.

    Raises
    ------
    ParameterMismatchError
        Ranks differ from the majority. Raised on all ranks.

    See Also
    --------
    syncbn.train.broadcast_parameters : Makes them equal.

    Examples
    --------
    >>> from syncbn import SyncBatchNorm, data, nn, train
    >>> images = data.prepare(data.load(), flat=True)
    >>> model = nn.Sequential(nn.Dense(784, 16), SyncBatchNorm(16), nn.ReLU(), nn.Dense(16, 10))
    >>> train.check_parameters(model)  # an error, if ranks differ
    """
    comm = find_communicator(comm, model)
    with collective_errors(comm, "check of parameters"):
        check_model(model)
        arrays = {name: parameter.data for name, parameter in model.named_parameters()} | _synchronized(model, comm)
        prints = {name: _fingerprint(array) for name, array in arrays.items()}
    if comm.size == 1:
        return
    digests = comm.allgather(hashlib.blake2b(repr(prints).encode()).digest())
    expected, _ = Counter(digests).most_common(1)[0]
    odd = [rank for rank, digest in enumerate(digests) if digest != expected]
    if not odd:
        return
    even = digests.index(expected)
    everywhere = comm.allgather(prints)
    names = dict.fromkeys(name for theirs in everywhere for name in theirs)  # in the order of the models
    first = next((name for name in names if len({theirs.get(name) for theirs in everywhere}) > 1), "their order")
    error = ParameterMismatchError(
        f"parameters differ between ranks: rank{'s' * (len(odd) > 1)} {', '.join(map(str, odd))} "
        f"from rank {even}; the first that differs is {first!r}. Make them equal by train.broadcast_parameters, sum "
        "gradients by train.sum_gradients, set the same learning rate (and momentum of layers) on all ranks, and load "
        "a state on every rank, or on rank 0 before broadcast_parameters"
        f"{see('parameters-that-differ')}"
    )
    raise raised_by_all(error, comm)


def _synchronized(model: Module, comm: Communicator) -> dict[str, NDArray[Any]]:
    """Return the buffers of the layers that all ranks synchronize, by name."""
    return {
        f"{path}.{name}" if path else name: buffer
        for path, module in model.named_modules()
        if isinstance(module, BatchNormalizer) and module.comm.size == comm.size
        for name, buffer in module.named_buffers()
    }


def _fingerprint(data: NDArray[Any]) -> tuple[object, ...]:
    diverged = np.isnan(data)
    if diverged.any():  # sums over ranks may give NaN of another sign on each
        data = np.where(diverged, data.dtype.type(np.nan), data)
    return data.shape, str(data.dtype), hashlib.blake2b(data.tobytes(), digest_size=16).digest()
