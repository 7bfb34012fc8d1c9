"""Normalization with the statistics of a batch, by one process alone or by the ranks of a communicator together."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import ArrayLike

from syncbn._core import plain
from syncbn.comm import SERIAL, Communicator, SerialComm
from syncbn.functional._alone import general_backward, normalize_alone
from syncbn.functional._input import BatchInput, check_name
from syncbn.functional._statistics import check_count
from syncbn.functional._together import general_backward_together, normalize_together
from syncbn.moments import Moments
from syncbn.typing import FloatArray


class BatchNormBackward(Protocol):
    """``dx, dweight, dbias = backward(dy)``, with a residual also dresidual.

    With ``total=True``, dweight and dbias are those of all ranks; ``out`` is memory for dx.
    """

    def __call__(self, dy: FloatArray, *, total: bool = False, out: FloatArray | None = None) -> Any:
        """Return the gradients. Collective."""


def normalize_batch(
    x: FloatArray,
    weight: FloatArray | None,
    bias: FloatArray | None,
    *,
    eps: float,
    channel_axis: int,
    mask: ArrayLike | None,
    communicator: Communicator = SERIAL,
    reduction: str,
    name: str,
    residual: FloatArray | None = None,
    relu: bool = False,
    out: FloatArray | None = None,
    channels: int | None = None,
) -> tuple[FloatArray, Moments, BatchNormBackward]:
    """Do what `syncbn.functional.batch_norm` says; ``channels`` is what a layer expects of x. Collective."""
    alone = type(communicator) is SerialComm
    if plain.batch and mask is residual is out is None and relu is False:
        given_plain = x, weight, bias, eps, channel_axis, reduction, channels
        if alone:
            found = plain.batch.forward(*given_plain, general_backward)
        else:
            found = plain.ranks.forward(*given_plain, communicator, name, check_count, general_backward_together)
        if found:
            y, count, mean, var, backward = found
            return y, Moments(count, mean, var), backward
    protocol = communicator._protocol
    with protocol.collective_errors(protocol.unknown_signature("forward", name)):
        name = check_name(name)
        given = BatchInput(
            x, weight, bias, eps, channel_axis, mask, reduction, residual, relu, out, channels, communicator.size
        )
    if alone:
        return normalize_alone(given)
    return normalize_together(given, communicator, name)
