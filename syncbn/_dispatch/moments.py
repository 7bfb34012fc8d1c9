"""What an array gives to the moments of its channels, on the way to a reduction over ranks.

Two kinds with the same methods: rows of several values (`RowMoments`) are summed to a few numbers each
before anything is combined; in dense layers (`ColumnMoments`) a row is one value, and sums go straight down
the columns.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from syncbn._dispatch.kernels import kernels
from syncbn._dispatch.layout import NO_MASK, ChannelLayout, MaskArray
from syncbn._dispatch.threads import threads_for
from syncbn.typing import Float64Array, FloatArray, Int64Array


class Rows(NamedTuple):
    """What each row (one sample's values in one channel) gives to the moments, shape (N, C) each.

    first: x₀, the first value; deviation: Σ(x − x₀); square: Σ(x − x₀)²; counts (N,): values per row.
    """

    first: Float64Array
    deviation: Float64Array
    square: Float64Array
    counts: Float64Array


class MomentTerms(Protocol):
    """What a reduction asks of either kind.

    Attributes
    ----------
    count : int
        Values per channel on this rank.
    """

    count: int

    def ranges(self, range_w: Float64Array) -> None:
        """Write the largest count of a row, and the ranges of the rows of each channel, 1 + 2C numbers."""

    def exact_sums(self, range_w: Float64Array, words_4c: Int64Array) -> None:
        """Write sums without rounding of what is scaled by the range."""

    def float64_sums(self, words_4c: Float64Array) -> None:
        """Write sums in plain float64."""


class RowMoments:
    """Rows of several values."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.count = int(sum(rows.counts.tolist()))

    def ranges(self, range_w: Float64Array) -> None:
        """Write the largest count; the largest of x₀ and μᵣ + σᵣ over rows r; the largest of −x₀ and σᵣ − μᵣ."""
        kernels.moment_ranges(*self.rows, range_w)

    def exact_sums(self, range_w: Float64Array, words_4c: Int64Array) -> None:
        """Write Σn·m and Σ[n·m² + M2] over rows, m = μᵣ − centre of the range, scaled by its reach."""
        kernels.moment_sums(*self.rows, range_w, words_4c)

    def float64_sums(self, words_4c: Float64Array) -> None:
        """Write Σx and Σx², two words each."""
        kernels.moment_sums_float64(*self.rows, words_4c)


class ColumnMoments:
    """Rows of one value: x is (N, C)."""

    def __init__(self, x_nc: FloatArray, mask_n: MaskArray) -> None:
        self.x_nc = x_nc
        self.mask_n = mask_n
        self.count = int(mask_n.sum()) if mask_n.size else len(x_nc)

    def ranges(self, range_w: Float64Array) -> None:
        """Write 1, max x and max −x."""
        kernels.moment_ranges_columns(self.x_nc, self.mask_n, range_w, threads_for(self.x_nc.nbytes))

    def exact_sums(self, range_w: Float64Array, words_4c: Int64Array) -> None:
        """Write Σm and Σm², m = x − centre of the range, scaled by its reach."""
        kernels.moment_sums_columns(self.x_nc, self.mask_n, range_w, words_4c, threads_for(self.x_nc.nbytes))

    def float64_sums(self, words_4c: Float64Array) -> None:
        """Write Σx and Σx², two words each: a column is summed as one long row."""
        mask = self.mask_n[None] if self.mask_n.size else NO_MASK
        kernels.moment_sums_float64(*sum_rows(self.x_nc[None], mask, channels_last=True), words_4c)


def moment_terms(x: FloatArray, layout: ChannelLayout, mask_ns: MaskArray) -> MomentTerms:
    """Return what ``x`` (a view of ``layout``) gives to the moments."""
    if layout.row_size == 1:
        return ColumnMoments(x.reshape(layout.samples, layout.channels), mask_ns.ravel())
    return RowMoments(moment_rows(x, layout, mask_ns))


def moment_rows(x: FloatArray, layout: ChannelLayout, mask_ns: MaskArray) -> Rows:
    """Sum the rows of ``x`` (a view of ``layout``)."""
    return sum_rows(x, mask_ns, channels_last=layout.channels_last)


def sum_rows(x: FloatArray, mask_ns: MaskArray, *, channels_last: bool) -> Rows:
    """Sum the rows of ``x``, (N, S, C) or (N, C, S)."""
    samples, size, channels = x.shape if channels_last else (x.shape[0], x.shape[2], x.shape[1])
    shape = (samples if x.size else 0, channels)
    counts = mask_ns.sum(axis=1, dtype=np.float64) if mask_ns.size else np.full(shape[0], float(size))
    rows = Rows(np.empty(shape), np.empty(shape), np.empty(shape), counts[: shape[0]])
    if x.size:
        kernel = kernels.moment_rows_nsc if channels_last else kernels.moment_rows_ncs
        kernel(x, mask_ns, rows.first, rows.deviation, rows.square, threads_for(x.nbytes))
    return rows
