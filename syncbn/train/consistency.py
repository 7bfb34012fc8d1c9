"""The check that all ranks have equal parameters."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np

from syncbn.comm import CommLike
from syncbn.layers import Module, Parameter
from syncbn.pitfalls import see
from syncbn.train.errors import check_model, collective_errors, find_communicator, of_all_ranks, raised_by_all


class ParameterMismatchError(RuntimeError):
    """Ranks have different parameters. Raised on every rank.

    The message has the ranks and the name of the first parameter that differs.

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
    """Raise unless all parameters have the same bits on all ranks.

    Collective. Buffers aren't compared: the running statistics of local batch normalization differ. All NaN count as
    equal, because training that diverges gives NaN of other bits on each rank.

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
        prints = {name: _fingerprint(parameter) for name, parameter in model.named_parameters()}
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
        "gradients by train.sum_gradients, set the same learning rate on all ranks, and load a state on every rank, "
        "or on rank 0 before broadcast_parameters"
        f"{see('parameters-that-differ')}"
    )
    raise raised_by_all(error, comm)


def _fingerprint(parameter: Parameter) -> tuple[object, ...]:
    data = parameter.data
    diverged = np.isnan(data)
    if diverged.any():  # sums over ranks may give NaN of another sign on each
        data = np.where(diverged, data.dtype.type(np.nan), data)
    return data.shape, str(data.dtype), hashlib.blake2b(data.tobytes(), digest_size=16).digest()
