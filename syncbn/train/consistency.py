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
    prints = {name: _fingerprint(parameter) for name, parameter in model.named_parameters()}
    digests = comm.allgather(hashlib.blake2b(repr(prints).encode()).digest())
    expected, _ = Counter(digests).most_common(1)[0]
    odd = [rank for rank, digest in enumerate(digests) if digest != expected]
    if not odd:
        return
    even = digests.index(expected)
    everywhere = comm.allgather(prints)
    names = dict.fromkeys(name for theirs in everywhere for name in theirs)  # in the order of the models
    first = next((name for name in names if len({theirs.get(name) for theirs in everywhere}) > 1), "their order")
    raise ParameterMismatchError(
        f"parameters differ between ranks: rank{'s' * (len(odd) > 1)} {', '.join(map(str, odd))} "
        f"from rank {even}; the first that differs is {first!r}"
    )


def _fingerprint(parameter: Parameter) -> tuple[object, ...]:
    data = parameter.data
    return data.shape, str(data.dtype), hashlib.blake2b(data.tobytes(), digest_size=16).digest()
