"""Cross-correlation of maps with kernels: a few large matrix products over rows of windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from syncbn.nn._checks import Pair
from syncbn.nn._maps import from_nhwc, is_channels_last, output_size, overlap
from syncbn.typing import FloatArray

_SCRATCH_BYTES = 1 << 19  # of the backward's scratch: it stays in the L2 cache, and malloc need not map new pages


def correlate(
    x: FloatArray, w_oikl: FloatArray, stride: Pair, padding: Pair
) -> tuple[FloatArray, Callable[[FloatArray], tuple[FloatArray, FloatArray]]]:
    """Return y, shape (N, O, OH, OW), and the function from dy to (dx, dw).

    Windows are unrolled along the width only, into ``rows``: 3 copies of x for a 3x3 kernel where
    im2col makes 9. With the channels innermost, and the rows sorted by row number modulo the
    vertical stride, kernel row k then meets a contiguous run of each sample's rows, and y is the
    sum of KH matrix products on plain views.
    """
    n, c, h, w = x.shape
    o, _, kh, kw = w_oikl.shape
    (sh, sw), (ph, pw) = stride, padding
    out_h, out_w = output_size("Conv2d", h, kh, sh, ph), output_size("Conv2d", w, kw, sw, pw)
    channels_last, dtype = is_channels_last(x), x.dtype
    # Row r of the padded x is row r // sh of phase r % sh.
    phases, per_phase = min(sh, kh), out_h + (kh - 1) // sh
    places = [(k % sh, k // sh * out_w) for k in range(kh)]  # phase and first position of kernel row k
    pixels, positions = out_h * out_w, per_phase * out_w
    windows = [
        (f, j, *overlap(f, h, per_phase, sh, ph), *overlap(j, w, out_w, sw, pw))
        for f in range(phases)
        for j in range(kw)
    ]

    x_nhwc = x.transpose(0, 2, 3, 1)
    unrolled = np.zeros((phases, n, per_phase, out_w, kw, c), dtype)
    for f, j, to_h, at_h, to_w, at_w in windows:
        unrolled[f, :, to_h, to_w, j] = x_nhwc[:, at_h, at_w]
    rows = unrolled.reshape(phases, n, positions, kw * c)
    w_kio = np.ascontiguousarray(w_oikl.transpose(2, 3, 1, 0), dtype).reshape(kh, kw * c, o)
    y_npo = rows[0, :, :pixels] @ w_kio[0]
    for k, (f, start) in list(enumerate(places))[1:]:
        y_npo += rows[f, :, start : start + pixels] @ w_kio[k]

    def gradients(dy: FloatArray) -> tuple[FloatArray, FloatArray]:
        # dy at the positions of ``rows``: zeros where a kernel row would start in one sample and end in the next.
        dy_grid = np.zeros((n, per_phase, out_w, o), dtype)
        dy_grid[:, :out_h] = dy.transpose(0, 2, 3, 1)
        dy_npo, dy_flat = dy_grid.reshape(n, positions, o)[:, :pixels], dy_grid.reshape(-1, o)
        rows_flat = rows.reshape(phases, -1, kw * c)
        dw_kio = np.empty((kh, kw * c, o), dtype)
        for k, (f, start) in enumerate(places):
            np.matmul(rows_flat[f, start:].T, dy_flat[: len(dy_flat) - start], out=dw_kio[k])

        dx_nhwc = np.zeros((n, h, w, c), dtype)
        block = max(1, min(n, _SCRATCH_BYTES // (phases * positions * kw * c * dtype.itemsize)))
        scratch = np.empty((phases, block, positions, kw * c), dtype)
        products = np.empty((block, pixels, kw * c), dtype)
        for first in range(0, n, block):
            dy_block, dx_block = dy_npo[first : first + block], dx_nhwc[first : first + block]
            size = len(dy_block)
            drows, product = scratch[:, :size], products[:size]
            drows[...] = 0
            for k, (f, start) in enumerate(places):
                drows[f, :, start : start + pixels] += np.matmul(dy_block, w_kio[k].T, out=product)
            drolled = drows.reshape(phases, size, per_phase, out_w, kw, c)
            for f, j, to_h, at_h, to_w, at_w in windows:
                dx_block[:, at_h, at_w] += drolled[f, :, to_h, to_w, j]
        dw_oikl = np.ascontiguousarray(dw_kio.reshape(kh, kw, c, o).transpose(3, 2, 0, 1))
        return from_nhwc(dx_nhwc, channels_last), dw_oikl

    return from_nhwc(y_npo.reshape(n, out_h, out_w, o), channels_last), gradients
