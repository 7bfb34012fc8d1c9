"""What an array and its gradient give to Σ dy and Σ dy·(x − μ) of each channel; the two kinds of `moments`."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from syncbn._dispatch.kernels import kernels
from syncbn._dispatch.layout import ChannelLayout
from syncbn._dispatch.threads import threads_for
from syncbn.typing import Float64Array, FloatArray, Int64Array


class GradientTerms(Protocol):
    """What a reduction asks of either kind. Words and sums of Σ dy come first, then those of Σ dy·(x − μ)."""

    def largest(self, largest_2c: Float64Array) -> None:
        """Write the largest magnitude of a term."""

    def exact_sums(self, largest_2c: Float64Array, words_4c: Int64Array) -> None:
        """Write sums without rounding of what is scaled by the largest."""

    def float64_sums(self, sums_2c: Float64Array) -> None:
        """Write sums in plain float64."""


class RowGradients:
    """Rows of several values, each summed before anything is combined."""

    def __init__(self, rows: tuple[Float64Array, Float64Array]) -> None:
        self.rows = rows

    def largest(self, largest_2c: Float64Array) -> None:
        """Write the largest |Σ| of a row."""
        kernels.largest_gradients(*self.rows, largest_2c)

    def exact_sums(self, largest_2c: Float64Array, words_4c: Int64Array) -> None:
        """Write the sums over rows, scaled."""
        kernels.gradient_sums(*self.rows, largest_2c, words_4c)

    def float64_sums(self, sums_2c: Float64Array) -> None:
        """Write the sums over rows."""
        for row, sums in zip(self.rows, sums_2c, strict=True):
            row.sum(axis=0, out=sums)


class ColumnGradients:
    """Rows of one value: x and dy are (N, C)."""

    def __init__(self, x_nc: FloatArray, dy_nc: FloatArray, mean_c: Float64Array) -> None:
        self.arrays = (x_nc, dy_nc, mean_c)
        self.threads = threads_for(2 * x_nc.nbytes)

    def largest(self, largest_2c: Float64Array) -> None:
        """Write the largest |dy| and |dy·(x − μ)|."""
        kernels.largest_gradients_columns(*self.arrays, largest_2c, self.threads)

    def exact_sums(self, largest_2c: Float64Array, words_4c: Int64Array) -> None:
        """Write the sums over samples, scaled."""
        kernels.gradient_sums_columns(*self.arrays, largest_2c, words_4c, self.threads)

    def float64_sums(self, sums_2c: Float64Array) -> None:
        """Write the sums over samples: a column is summed as one long row."""
        x_nc, dy_nc, mean_c = self.arrays
        if not x_nc.size:
            sums_2c[...] = 0
            return
        kernels.gradient_rows_nsc(x_nc[None], dy_nc[None], mean_c[None], sums_2c[:1], sums_2c[1:], self.threads)


def gradient_terms(x: FloatArray, dy: FloatArray, layout: ChannelLayout, mean_c: Float64Array) -> GradientTerms:
    """Return what ``x`` and ``dy`` (views of ``layout``) give to the sums."""
    if layout.row_size == 1:
        shape = (layout.samples, layout.channels)
        return ColumnGradients(x.reshape(shape), dy.reshape(shape), mean_c)
    return RowGradients(gradient_rows(x, dy, layout, mean_c[None]))


def gradient_rows(
    x: FloatArray, dy: FloatArray, layout: ChannelLayout, mean_nc: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Return Σ dy and Σ dy·(x − μ) of each row, shape (N, C)."""
    shape = (layout.samples if x.size else 0, layout.channels)
    sums, products = np.empty(shape), np.empty(shape)
    if x.size:
        kernel = kernels.gradient_rows_nsc if layout.channels_last else kernels.gradient_rows_ncs
        kernel(x, dy, mean_nc, sums, products, threads_for(2 * x.nbytes))
    return sums, products
