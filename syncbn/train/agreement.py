"""The check that all ranks still have the same parameters."""

from __future__ import annotations

import hashlib
from collections import Counter

from syncbn.comm import Communicator
from syncbn.layers import Module, Parameter


class ParameterMismatchError(RuntimeError):
    """Ranks have different parameters: which ranks, and the first parameter that differs.

    Raised on every rank.
    """


def check_parameters(model: Module, comm: Communicator) -> None:
    """Raise unless all parameters have the same bits on all ranks.

    Collective. Buffers aren't compared: the running statistics of local batch normalization differ.

    Parameters
    ----------
    model : Module
    comm : Communicator

    Raises
    ------
    ParameterMismatchError
        On all ranks. Ranks are compared with what most of them have.
    """
    if comm.size == 1:
        return
    named = list(model.named_parameters())
    digests = comm.allgather(_digest(*(parameter for _, parameter in named)))
    expected, _ = Counter(digests).most_common(1)[0]
    odd = [rank for rank, digest in enumerate(digests) if digest != expected]
    if not odd:
        return
    even = digests.index(expected)
    details = comm.allgather([(name, _digest(parameter)) for name, parameter in named])
    first = next(name for position, (name, _) in enumerate(named) if len({str(d[position]) for d in details}) > 1)
    raise ParameterMismatchError(
        f"parameters differ between ranks: rank{'s' * (len(odd) > 1)} {', '.join(map(str, odd))} "
        f"from rank {even}; the first that differs is {first!r}"
    )


def _digest(*parameters: Parameter) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for parameter in parameters:
        digest.update(parameter.data.tobytes())
    return digest.digest()
