"""Arrays larger than the caches, whose results are written around them, have the bits of their parts."""

from __future__ import annotations

import numpy as np
import pytest
from exact.bits import same_bits

from syncbn._core.kernels import available, load_kernels

BUILDS = [vars(load_kernels(which)) for which in available()]
EPS = 1e-5
LINE = 64

SHAPES = {
    "rows of whole cache lines": (3, 48, 48 * 48),
    "rows of other lengths": (3, 47, 49 * 49),
}


def allocate(shape, dtype, offset):
    """Return memory filled with NaN that begins ``offset`` bytes after the beginning of a cache line."""
    size = np.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + 2 * LINE, np.uint8)
    start = -memory.ctypes.data % LINE + offset
    array = memory[start : start + size].view(dtype).reshape(shape)
    array[...] = np.nan
    return array


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("offset", [0, 16], ids=["aligned", "not aligned"])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_passes_over_large_arrays(dtype, shape, last, offset, threads):
    rng = np.random.default_rng(0)
    n, c, s = shape
    n *= 7 if dtype is np.float64 else 14
    x = rng.standard_normal((n, s, c) if last else (n, c, s)).astype(dtype)
    dy = x[::-1].copy()
    assert x.nbytes > 1 << 24
    assert x[:2].nbytes < 1 << 24
    mean, var, weight, bias = rng.uniform(0.5, 2.0, (4, c))
    moments, gradients = np.empty((5, c)), np.zeros((4, c))
    max_2c, limbs = np.ones((2, c)), np.ones((2, 4, c), np.int64)
    for build in BUILDS:
        inference, gradient = build["batch_inference"], build["rank_input_gradient"]
        y, dx = allocate(x.shape, dtype, offset), allocate(x.shape, dtype, offset)
        inference(x, last, mean, var, weight, bias, EPS, None, False, moments, y, threads)
        gradient(x, dy, last, None, 100.0, moments, max_2c, limbs, None, False, gradients, dx, threads)
        for start in range(0, n, 2):
            part = slice(start, start + 2)
            y_part, dx_part = np.empty_like(y[part]), np.empty_like(dx[part])
            inference(x[part], last, mean, var, weight, bias, EPS, None, False, moments, y_part, 1)
            gradient(x[part], dy[part], last, None, 100.0, moments, max_2c, limbs, None, False, gradients, dx_part, 1)
            assert same_bits(y[part], y_part)
            assert same_bits(dx[part], dx_part)
