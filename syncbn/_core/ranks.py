"""Batch normalization of the ranks of a communicator: allocate, and call the kernels around its messages."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from syncbn._core.batch import BatchShapes
from syncbn._core.kernels import kernels
from syncbn._core.layout import ChannelLayout, MaskArray
from syncbn._core.threads import threads_for
from syncbn.typing import Float64Array, FloatArray


class RankKernels(BatchShapes):
    """The kernels of each of several ranks, for arrays of one layout.

    Where sums are exact, there are ranges to agree on before them, and words are integers.
    """

    def __init__(self, layout: ChannelLayout, exact: bool) -> None:
        super().__init__(layout, exact)
        self.channels = layout.channels
        self.last = layout.channels_last
        self.reshape = self.shape if self.long_rows else None
        if not self.bytes:  # a rank of no values has no rows either
            self.counts, self.count, self.reshape, self.last = self.counts[:0], 0, (0, 1, self.channels), True
            self.rows_shape = None if self.rows_shape is None else (0, self.channels)
        self.words_dtype = np.dtype(np.int64 if exact else np.float64)

    def seen(self, array: FloatArray) -> FloatArray:
        """Return a view of the layout as these kernels take it."""
        return array if self.reshape is None else array.reshape(self.reshape)

    def ranges(self, x: FloatArray, mask_ns: MaskArray | None, counts: Float64Array) -> tuple[Float64Array | None, Any]:
        """Return the sums of rows, (3, N, C), and what to agree on by MAX: the range, (1 + 2C,), or nothing."""
        rows = None if self.rows_shape is None else np.empty((3, *self.rows_shape))
        range_w = np.empty(1 + 2 * self.channels) if self.exact else None
        kernels.rank_ranges(x, self.last, mask_ns, counts, rows, range_w, threads_for(self.bytes))
        return rows, range_w

    def words(self, count: int) -> Any:
        """Return memory for what to sum over ranks, (1 + 4C,): ``count``, and words of their sums."""
        words = np.empty(1 + 4 * self.channels, self.words_dtype)
        words[0] = count
        return words

    def sums(
        self,
        x: FloatArray,
        mask_ns: MaskArray | None,
        counts: Float64Array,
        rows: Float64Array | None,
        range_w: Float64Array,
        words: Any,
    ) -> None:
        """Write the words."""
        kernels.rank_sums(
            x, self.last, mask_ns, counts, rows, *self._either(range_w, words[1:]), threads_for(self.bytes)
        )

    def normalize(
        self,
        x: FloatArray,
        range_w: Float64Array,
        words: Any,
        weight_c: Float64Array | None,
        bias_c: Float64Array | None,
        eps: float,
        residual: FloatArray | None,
        relu: bool,
        y: FloatArray,
    ) -> Float64Array:
        """Write y; return (5, C): μ, var, 1/√(var + eps), scale and bias of y. Zeros where no rank has values."""
        count = int(words[0])
        if count == 0:
            return np.zeros((5, self.channels))
        moments_5c = np.empty((5, self.channels))
        kernels.rank_normalize(
            x,
            self.last,
            count,
            *self._either(range_w, words[1:]),
            weight_c,
            bias_c,
            eps,
            residual if self.bytes else None,
            relu,
            moments_5c,
            y,
            threads_for(2 * self.bytes),
        )
        return moments_5c

    def gradient_ranges(
        self, x: FloatArray, dy: FloatArray, moments_5c: Float64Array, y: FloatArray | None, g: FloatArray | None
    ) -> tuple[Float64Array | None, Any]:
        """Return the sums of rows, (2, N, C), and what to agree on by MAX: the largest, (2, C), or nothing.

        With ``y`` (of a forward with relu), write dy where y > 0 to ``g``.
        """
        rows = None if self.rows_shape is None else np.empty((2, *self.rows_shape))
        largest_2c = np.empty((2, self.channels)) if self.exact else None
        threads = threads_for(2 * self.bytes)
        if not self.bytes:
            y = g = None
        kernels.rank_gradient_ranges(x, dy, self.last, moments_5c, y, g, rows, largest_2c, threads)
        return rows, largest_2c

    def gradient_words(self) -> Any:
        """Return memory for words twice: to sum over ranks, and to keep."""
        return np.empty((2, 4 if self.exact else 2, self.channels), self.words_dtype)

    def gradient_sums(
        self,
        x: FloatArray,
        g: FloatArray,
        moments_5c: Float64Array,
        rows: Float64Array | None,
        largest_2c: Float64Array,
        words: Any,
    ) -> None:
        """Write the words."""
        maxima, exact, plain = (largest_2c, words[1], None) if self.exact else (None, None, words[1])
        kernels.rank_gradient_sums(x, g, self.last, moments_5c, rows, maxima, exact, plain, threads_for(2 * self.bytes))
        words[0] = words[1]

    def input_gradient(
        self,
        x: FloatArray,
        g: FloatArray,
        mask_ns: MaskArray | None,
        count: int,
        moments_5c: Float64Array,
        largest_2c: Float64Array,
        words: Any,
        total: bool,
        dx: FloatArray,
    ) -> Float64Array:
        """Write dx; return dweight and dbias first, of this rank or of all."""
        if count == 0:
            return np.zeros((4, self.channels))
        gradients_4c = np.empty((4, self.channels))
        maxima, exact, plain = (largest_2c, words, None) if self.exact else (None, None, words)
        threads = threads_for(3 * self.bytes)
        kernels.rank_input_gradient(
            x, g, self.last, mask_ns, count, moments_5c, maxima, exact, plain, total, gradients_4c, dx, threads
        )
        return gradients_4c

    def _either(self, range_w: Float64Array, words: Any) -> tuple[Any, Any, Any]:
        """Return range, exact words and float64 words, None for those that this kind of sums has not."""
        words = words.reshape(4, self.channels)
        return (range_w, words, None) if self.exact else (None, None, words)


rank_kernels = lru_cache(maxsize=1024)(RankKernels)
"""The kernels' arguments for a layout and a kind of sums, found once."""
