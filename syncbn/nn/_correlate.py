"""Cross-correlation of images with kernels: matrix products of unrolled windows, in blocks that fit into cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.nn._checks import Pair
from syncbn.nn._images import from_nhwc, is_channels_last, output_size, overlap
from syncbn.typing import FloatArray

_BLOCK_BYTES = 1 << 19  # unrolled windows per block: they stay in the L2 cache, and malloc reuses their pages
_BLOCK_ROWS = 2  # minimum of windows per kernel in a block, because every product reads all kernels


def correlate(
    x: FloatArray, w_oikl: FloatArray, stride: Pair, padding: Pair
) -> tuple[NDArray[Any], Callable[[FloatArray], tuple[NDArray[Any], FloatArray]]]:
    """Return y of shape (N, O, OH, OW) and a function that maps dy to (dx, dw).

    y is the product of all windows of x, each unrolled into a row, with the kernels (im2col). dx is computed from
    windows of dy by the same method: pixels with equal positions modulo the stride are multiplied by the same taps of
    the kernels, so each such position is one correlation of stride 1 with these taps in reverse order.
    """
    n, c, h, w = x.shape
    o, _, kh, kw = w_oikl.shape
    (sh, sw), (ph, pw) = stride, padding
    out = output_size("Conv2d", h, kh, sh, ph), output_size("Conv2d", w, kw, sw, pw)
    channels_last, dtype = is_channels_last(x), x.dtype
    w_okli = np.ascontiguousarray(w_oikl.transpose(0, 2, 3, 1), dtype)
    windows = _windows(x.transpose(0, 2, 3, 1), out, (kh, kw), stride, padding)
    y_nhwc = _products(windows, w_okli.reshape(o, -1).T)

    def gradients(dy: FloatArray) -> tuple[FloatArray, FloatArray]:
        dy_nhwc = np.ascontiguousarray(dy.transpose(0, 2, 3, 1))
        dw_ok = np.zeros((o, kh * kw * c), dtype)
        for block in _blocks(windows, o):
            dw_ok += dy_nhwc[block].reshape(-1, o).T @ _rows(windows[block])

        dx_nhwc = np.zeros((n, h, w, c), dtype)
        w_kloi = w_okli.transpose(1, 2, 0, 3)
        for i, j in np.ndindex(min(sh, h), min(sw, w)):  # the position modulo the stride
            dx_phase = dx_nhwc[:, i::sh, j::sw]
            taps = w_kloi[(i + ph) % sh :: sh, (j + pw) % sw :: sw][::-1, ::-1]
            before = len(taps) - 1 - (i + ph) // sh, taps.shape[1] - 1 - (j + pw) // sw
            if taps.size:
                dy_windows = _windows(dy_nhwc, dx_phase.shape[1:3], taps.shape[:2], (1, 1), before)
                dx_phase[...] = _products(dy_windows, taps.reshape(-1, c))
        return from_nhwc(dx_nhwc, channels_last), dw_ok.reshape(o, kh, kw, c).transpose(0, 3, 1, 2)

    return from_nhwc(y_nhwc, channels_last), gradients


def _windows(x_nhwc: FloatArray, out: Pair, kernel: Pair, stride: Pair, padding: Pair) -> FloatArray:
    """Return a view of shape (N, OH, OW, KH, KW·C) on the windows of x, which is copied if it needs padding.

    ``padding`` is the distance by which the first window begins before x; if negative, it begins inside x.
    """
    n, h, w, c = x_nhwc.shape
    rows, columns = ((size - 1) * s + k for size, s, k in zip(out, stride, kernel, strict=True))
    if padding == (0, 0) and (rows, columns) == (h, w):
        padded = np.ascontiguousarray(x_nhwc)
    else:
        padded = np.zeros((n, rows, columns, c), x_nhwc.dtype)
        (to_h, at_h), (to_w, at_w) = overlap(0, h, rows, 1, padding[0]), overlap(0, w, columns, 1, padding[1])
        padded[:, to_h, to_w] = x_nhwc[:, at_h, at_w]
    pixel = c * padded.itemsize  # not padded.strides, which are unspecified for axes of one element
    row = columns * pixel
    strides = rows * row, stride[0] * row, stride[1] * pixel, row, padded.itemsize
    view: FloatArray = np.ndarray((n, *out, kernel[0], kernel[1] * c), padded.dtype, padded, strides=strides)
    return view


def _products(windows: FloatArray, w_ko: FloatArray) -> FloatArray:
    """Return the products of all windows with ``w_ko``, of shape (N, OH, OW, O)."""
    out_size = w_ko.shape[1]
    y_nhwc = np.empty((*windows.shape[:3], out_size), windows.dtype)
    for block in _blocks(windows, out_size):
        np.matmul(_rows(windows[block]), w_ko, out=y_nhwc[block].reshape(-1, out_size))
    return y_nhwc


def _blocks(windows: FloatArray, kernels: int) -> Iterator[tuple[slice, slice]]:
    """Yield the slices of samples and of rows of each block, which has several samples or a part of one."""
    n, out_h, *rest = windows.shape
    block = max(_BLOCK_BYTES // (math.prod(rest[1:]) * windows.itemsize), _BLOCK_ROWS * kernels)
    rows = max(1, block // rest[0])
    samples, rows = max(1, rows // out_h), min(rows, out_h)
    for first in range(0, n, samples):
        for top in range(0, out_h, rows):
            yield slice(first, first + samples), slice(top, top + rows)


def _rows(windows: FloatArray) -> FloatArray:
    """Return one row of KH·KW·C values for each window."""
    return windows.reshape(-1, windows.shape[3] * windows.shape[4])
