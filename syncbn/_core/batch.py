"""Batch normalization of one process alone: allocate, and call the one kernel of each direction.

Python runs five times slower than usual where a kernel has just swept the interpreter out of the caches, so what
follows from the layout alone is found once, and calls do no more than they must.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from syncbn._core.kernels import kernels
from syncbn._core.layout import ChannelLayout, MaskArray
from syncbn._core.threads import threads_for
from syncbn.typing import Float64Array, FloatArray

BLOCK_AS_FITS = 0
"""The kernels take as many channels at a time as fit in the cache."""

MOST_ROWS = 1 << 30
"""Rows of all ranks that exact sums have room for: each adds up to 2³² to a word of 63 bits."""


class BatchShapes:
    """What kernels of batch normalization take for arrays of one layout.

    Parameters
    ----------
    layout : ChannelLayout
    exact : bool
        Whether sums are exact. In float64 a dense layer's column is one long row.
    """

    def __init__(self, layout: ChannelLayout, exact: bool) -> None:
        dense = layout.row_size == 1
        self.layout = layout
        self.exact = exact
        self.long_rows = dense and not exact
        samples, size = (1, layout.samples) if self.long_rows else (layout.samples, layout.row_size)
        self.shape = (1, layout.samples, layout.channels) if self.long_rows else layout.kernel_shape
        self.mask_shape = (samples, size)
        self.rows_shape = None if dense and exact else (samples, layout.channels)
        self.counts = np.full(samples, float(size))
        self.count = samples * size
        self.bytes = self.count * layout.channels * layout.work_dtype.itemsize

    def counted(self, mask_ns: MaskArray | None) -> tuple[MaskArray | None, Float64Array, int]:
        """Return the mask as kernels take it, the values that count in each row of a sample, and their number."""
        if mask_ns is None:
            return None, self.counts, self.count
        mask_ns = mask_ns.reshape(self.mask_shape)
        counts = mask_ns.sum(axis=1, dtype=np.float64)
        return mask_ns, counts, int(counts.sum())


class BatchKernels(BatchShapes):
    """The kernels of one process alone, for arrays of one layout."""

    def forward(
        self,
        x: FloatArray,
        mask_ns: MaskArray | None,
        weight_c: Float64Array | None,
        bias_c: Float64Array | None,
        eps: float,
        residual: FloatArray | None,
        relu: bool,
        y: FloatArray,
    ) -> tuple[int, Float64Array]:
        """Write y; return values per channel, and (5, C): μ, var, 1/√(var + eps), scale and bias of y."""
        layout = self.layout
        mask_ns, counts, count = self.counted(mask_ns)
        if count < 2 or not self.bytes:
            return count, np.zeros((5, layout.channels))
        if self.long_rows:
            x, y = x.reshape(self.shape), y.reshape(self.shape)
            residual = None if residual is None else residual.reshape(self.shape)
        moments_5c = np.empty((5, layout.channels))
        kernels.batch_forward(
            x,
            layout.channels_last,
            mask_ns,
            counts,
            count,
            weight_c,
            bias_c,
            eps,
            self.exact,
            residual,
            relu,
            BLOCK_AS_FITS,
            None if self.rows_shape is None else np.empty((3, *self.rows_shape)),
            moments_5c,
            y,
            threads_for(2 * self.bytes),
        )
        return count, moments_5c

    def inference(
        self,
        x: FloatArray,
        mean_c: Float64Array,
        var_c: Float64Array,
        weight_c: Float64Array | None,
        bias_c: Float64Array | None,
        eps: float,
        residual: FloatArray | None,
        relu: bool,
        y: FloatArray,
    ) -> Float64Array:
        """Write y, made with given μ and var; return as `forward`."""
        moments_5c = np.empty((5, self.layout.channels))
        if self.bytes:
            last, threads = self.layout.channels_last, threads_for(2 * self.bytes)
            kernels.batch_inference(
                x, last, mean_c, var_c, weight_c, bias_c, eps, residual, relu, moments_5c, y, threads
            )
        return moments_5c

    def backward(
        self,
        x: FloatArray,
        dy: FloatArray,
        mask_ns: MaskArray | None,
        count: int,
        moments_5c: Float64Array,
        y: FloatArray | None,
        g: FloatArray | None,
        dx: FloatArray,
    ) -> Float64Array:
        """Write dx, and with ``y`` (of a forward with relu) g: dy where y > 0. Return dweight and dbias first.

        With ``count`` 0, μ and var are constants, which no gradient flows through.
        """
        layout = self.layout
        if not self.bytes:
            return np.zeros((4, layout.channels))
        if mask_ns is not None:
            mask_ns = mask_ns.reshape(self.mask_shape)
        if self.long_rows:
            x, dy, dx = (a.reshape(self.shape) for a in (x, dy, dx))
            y, g = (None if a is None else a.reshape(self.shape) for a in (y, g))
        gradients_4c = np.empty((4, layout.channels))
        kernels.batch_backward(
            x,
            dy,
            layout.channels_last,
            mask_ns,
            count,
            moments_5c,
            self.exact,
            y,
            BLOCK_AS_FITS,
            None if self.rows_shape is None else np.empty((2, *self.rows_shape)),
            gradients_4c,
            g,
            dx,
            threads_for(3 * self.bytes),
        )
        return gradients_4c


batch_kernels = lru_cache(maxsize=1024)(BatchKernels)
"""The kernels' arguments for a layout and a kind of sums, found once."""
