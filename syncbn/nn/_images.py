"""Memory orders of images, and the overlap of windows with images, for convolution and pooling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from syncbn.typing import FloatArray, ScalarT


def is_channels_last(x_nchw: FloatArray) -> bool:
    """Return whether the memory order of ``x`` is (N, H, W, C), also if it is C order as well: this order is faster."""
    return bool(x_nchw.transpose(0, 2, 3, 1).flags.c_contiguous)


def empty_images(shape: tuple[int, ...], dtype: np.dtype[ScalarT], channels_last: bool) -> NDArray[ScalarT]:
    """Allocate an (N, C, H, W) array in C order or in channels-last memory order."""
    if not channels_last:
        return np.empty(shape, dtype)
    n, c, h, w = shape
    return from_nhwc(np.empty((n, h, w, c), dtype), channels_last)


def from_nhwc(x_nhwc: NDArray[ScalarT], channels_last: bool) -> NDArray[ScalarT]:
    """Return an (N, C, H, W) array: a view in channels-last memory, or a copy in C order."""
    x_nchw = x_nhwc.transpose(0, 3, 1, 2)
    return x_nchw if channels_last else np.ascontiguousarray(x_nchw)


def output_size(layer: str, size: int, kernel: int, stride: int, padding: int) -> int:
    """Return floor((size + 2·padding − kernel)/stride) + 1; raise ValueError if the window doesn't fit."""
    excess = size + 2 * padding - kernel
    if excess < 0 or size < 1:
        raise ValueError(
            f"{layer}: a window of {kernel} doesn't fit into {size} pixels with padding {padding}, "
            f"expected at least {max(1, kernel - 2 * padding)}"
        )
    return excess // stride + 1


def overlap(tap: int, size: int, outputs: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Return the outputs for which the tap is on a pixel instead of padding, and these pixels.

    The tap of output o is on pixel o·stride + tap − padding.
    """
    first = max(0, -((tap - padding) // stride))  # the smallest o with a pixel >= 0
    stop = min(outputs, (size - 1 + padding - tap) // stride + 1)
    if stop <= first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + tap - padding
    return slice(first, stop), slice(start, start + (stop - first - 1) * stride + 1, stride)
