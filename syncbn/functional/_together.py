"""Batch normalization of the ranks of a communicator, in two messages a direction.

Exact sums are integers on a grid that the range of all ranks' terms gives: no rounding, so no order. The range is
agreed on with the header of the call. Sums in plain float64 depend in their last bits on the number of ranks and on
their order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from syncbn._core.checks import check_out
from syncbn._core.conversion import parameter_gradients
from syncbn._core.ranks import rank_kernels
from syncbn.comm import Communicator
from syncbn.functional._input import BatchInput
from syncbn.functional._statistics import check_count, moments_of
from syncbn.moments import Moments
from syncbn.typing import Float64Array, FloatArray


def normalize_together(given: BatchInput, communicator: Communicator, name: str) -> tuple[FloatArray, Moments, Any]:
    """Return y, the moments and the backward of this rank's batch. Collective, and so is the backward."""
    layout, residual, protocol = given.layout, given.residual, communicator._protocol
    signature = given.signature(protocol, name)
    with protocol.collective_errors(signature):
        kernels = rank_kernels(layout, given.reduction == "exact")
        x, y = kernels.seen(given.x), kernels.seen(given.y)
        added = None if residual is None else kernels.seen(residual)
        mask, counts, own = kernels.counted(given.mask)
        rows, range_w = kernels.ranges(x, mask, counts)
        words = kernels.words(own)
    number = protocol.handshake(signature, range_w)
    kernels.sums(x, mask, counts, rows, range_w, words)
    protocol.sum(words)
    count = int(words[0])
    if count < 2:
        check_count(count, layout.shape, communicator)
    moments_5c = kernels.normalize(x, range_w, words, given.weight64, given.bias64, given.eps, added, given.relu, y)
    backward = _backward(given, communicator, name, number, count, moments_5c)
    return layout.restore(given.y, given.out), moments_of(count, moments_5c), backward


def _backward(
    given: BatchInput, communicator: Communicator, name: str, number: int, count: int, moments_5c: Float64Array
) -> Any:
    """Return the backward of forward ``number``, with these statistics over all ranks."""
    layout, relu, residual = given.layout, given.relu, given.residual
    kernels, protocol = rank_kernels(layout, given.reduction == "exact"), communicator._protocol
    signature = given.signature(protocol, name).backward
    x, y = kernels.seen(given.x), kernels.seen(given.y) if relu else None
    mask = kernels.counted(given.mask)[0]

    def backward(dy: FloatArray, *, total: bool = False, out: FloatArray | None = None) -> Any:
        with protocol.collective_errors(signature):
            g = kernels.seen(layout.view(given.check_gradient(dy)))
            if out is not None:
                out = check_out(out, "out", layout.shape, layout.dtype, given.x, dy, *((given.y,) if relu else ()))
            result = layout.empty(out)
            dx = kernels.seen(result)
            if relu:
                selected = dx if residual is None else np.empty_like(dx)
                rows, largest_2c = kernels.gradient_ranges(x, g, moments_5c, y, selected)
                g = selected
            else:
                rows, largest_2c = kernels.gradient_ranges(x, g, moments_5c, None, None)
            words = kernels.gradient_words()
        protocol.handshake(signature, largest_2c, number)
        kernels.gradient_sums(x, g, moments_5c, rows, largest_2c, words)
        protocol.sum(words[0])
        gradients_4c = kernels.input_gradient(x, g, mask, count, moments_5c, largest_2c, words, total, dx)
        gradients = (layout.restore(result, out), *parameter_gradients(gradients_4c, given.weight, given.bias))
        if residual is None:
            return gradients
        return *gradients, layout.restore(g) if relu else dy

    return backward


def general_backward_together(
    x: FloatArray,
    weight: FloatArray | None,
    bias: FloatArray | None,
    eps: float,
    channel_axis: int,
    reduction: str,
    communicator: Communicator,
    name: str,
    *forward: Any,
) -> Any:
    """Return the backward of a forward that has gone the short way of plain arrays, for a dy that can't."""
    protocol = communicator._protocol
    with protocol.collective_errors(protocol.unknown_signature("backward", name)):
        given = BatchInput(x, weight, bias, eps, channel_axis, None, reduction, backward_only=True)
    return _backward(given, communicator, name, *forward)
