"""Batch normalization of one process alone: allocate, and call the one kernel of each direction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from syncbn._dispatch.kernels import kernels
from syncbn._dispatch.layout import NO_MASK, ChannelLayout, MaskArray, like
from syncbn._dispatch.threads import threads_for
from syncbn.typing import Float64Array, FloatArray

BLOCK_BYTES = 1 << 18
"""Of x: with y (or dy and dx) beside it, a block stays in the second-level cache between its two sweeps."""

LARGEST_BLOCK = 128
"""Channels that kernels have room for."""


class Batch(NamedTuple):
    """One process's values as kernels see them, and what their statistics are made from.

    x: (N, C, S), or (N, S, C) where channels are last; mask_ns: bytes, (0, 0) without a mask; counts (N,): values
    that count in each row of a sample; count: values per channel; exact: whether sums are.
    """

    x: FloatArray
    channels_last: bool
    mask_ns: MaskArray
    counts: Float64Array
    count: int
    exact: bool

    @property
    def channels(self) -> int:
        """C."""
        return self.x.shape[2 if self.channels_last else 1]

    def block(self, threads: int) -> int:
        """Return the number of channels that share the cache, at least one block a thread."""
        channels = self.channels
        fit = BLOCK_BYTES * channels // self.x.nbytes
        return max(1, min(fit, LARGEST_BLOCK, -(-channels // threads)))


def batch_of(x: FloatArray, layout: ChannelLayout, mask_ns: MaskArray, exact: bool) -> Batch:
    """Return the batch of ``x`` (a view of ``layout``)."""
    if not exact and layout.row_size == 1:  # sums in float64 take a column as one long row
        x, mask_ns = x.reshape(1, layout.samples, layout.channels), mask_ns.reshape(1, -1) if mask_ns.size else NO_MASK
        counts = np.array([float(layout.samples)])
    else:
        counts = layout.counts
    if mask_ns.size:
        counts = mask_ns.sum(axis=1, dtype=np.float64)
        count = int(counts.sum())
    else:
        count = layout.samples * layout.row_size
    return Batch(x, layout.channels_last, mask_ns, counts, count, exact)


def forward(
    batch: Batch,
    weight_c: Float64Array,
    bias_c: Float64Array,
    eps: float,
    residual: FloatArray,
    relu: bool,
    y: FloatArray,
) -> Float64Array:
    """Write y; return μ, var, 1/√(var + eps), and scale and bias, (5, C)."""
    x, channels_last, mask_ns, counts, count, exact = batch
    moments_5c = np.empty((5, batch.channels))
    threads = threads_for(2 * x.nbytes)
    kernels.batch_forward(
        x,
        channels_last,
        mask_ns,
        counts,
        count,
        weight_c,
        bias_c,
        eps,
        exact,
        like(residual, x),
        relu,
        batch.block(threads),
        np.empty((3, len(x), batch.channels)),
        moments_5c,
        like(y, x),
        threads,
    )
    return moments_5c


def backward(
    batch: Batch, dy: FloatArray, moments_5c: Float64Array, y: FloatArray, g: FloatArray, dx: FloatArray
) -> tuple[Float64Array, Float64Array]:
    """Write dx, and dy where y > 0 to g (each but dx may be empty: without relu); return dweight and dbias."""
    x, channels_last, mask_ns, _, count, exact = batch
    gradients_4c = np.empty((4, batch.channels))
    threads = threads_for(3 * x.nbytes)
    kernels.batch_backward(
        x,
        like(dy, x),
        channels_last,
        mask_ns,
        count,
        moments_5c,
        exact,
        like(y, x),
        batch.block(threads),
        np.empty((2, len(x), batch.channels)),
        gradients_4c,
        like(g, x),
        like(dx, x),
        threads,
    )
    return gradients_4c[0], gradients_4c[1]
