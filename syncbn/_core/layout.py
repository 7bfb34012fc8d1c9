"""An array as the kernels see it: three axes in one of two memory orders."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_axis
from syncbn._core.conversion import contiguous, to_dtype, work_dtype
from syncbn.typing import BoolArray, FloatArray

MaskArray = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)  # there is one of each kind, and it is told apart by identity
class ChannelLayout:
    """How an array with a channel axis maps to (N, C, S) or (N, S, C) memory.

    N is the first axis that isn't the channel axis, S all others together. Channels-last *memory* is
    taken as it is, whatever the channel axis; an array that is neither is copied to C order.

    Attributes
    ----------
    shape, dtype, axis
        Of the array, with ``axis`` counted from 0.
    samples, channels, row_size : int
        N, C and S.
    channels_last : bool
        Whether kernels see (N, S, C).
    order : tuple of int
        The array's axes in the order of the kernels' memory.
    in_place : bool
        Whether that order is the array's own; else results go back to C order.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axis: int
    samples: int
    channels: int
    row_size: int
    channels_last: bool
    order: tuple[int, ...]
    in_place: bool

    @staticmethod
    def of(x: FloatArray, channel_axis: int) -> ChannelLayout:
        """Find the layout of ``x``."""
        if type(channel_axis) is not int:
            channel_axis = check_axis(channel_axis, x.ndim)
        return _channel_layout(x.shape, x.strides, x.dtype, channel_axis)

    @property
    def shape_ns(self) -> tuple[int, ...]:
        """The shape without the channel axis, samples first: what a mask is broadcast to."""
        return (*self.shape[: self.axis], *self.shape[self.axis + 1 :])

    def view(self, x: FloatArray) -> FloatArray:
        """Return ``x`` (of ``shape``, in any memory order) as the kernels see it, copied only if it must be.

        float16 becomes float32; foreign byte order and unaligned memory are copied.
        """
        in_order = x if self._order_is_own else x.transpose(self.order)
        flags = in_order.flags
        if not (flags.c_contiguous and flags.aligned and x.dtype is self.work_dtype):
            in_order = contiguous(in_order, self.work_dtype)
        return in_order.reshape(self.kernel_shape)

    def restore(self, result: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Return a kernel's result in the array's own shape, dtype and memory order, or written to ``out``."""
        if out is not None and result.base is not None and np.may_share_memory(out, result):
            return out
        y = result.reshape(self._shape_in_order)
        if not self._order_is_own:
            y = y.transpose(self._inverse)
        if y.dtype is not self.dtype:
            y = to_dtype(y, self.dtype)
        if out is not None:
            out[...] = y
            return out
        return y if self.in_place else np.ascontiguousarray(y)

    def empty(self, out: FloatArray | None = None) -> FloatArray:
        """Return memory for a result: that of ``out`` (of ``shape`` and ``dtype``) where kernels can write it."""
        if out is not None and self.dtype.itemsize >= 4:
            in_order: FloatArray = out.transpose(self.order)
            if in_order.flags.c_contiguous and in_order.flags.aligned:
                return in_order.reshape(self.kernel_shape)
        return np.empty(self.kernel_shape, self.work_dtype)

    @cached_property
    def kernel_shape(self) -> tuple[int, int, int]:
        """(N, C, S), or (N, S, C) where channels are last."""
        if self.channels_last:
            return self.samples, self.row_size, self.channels
        return self.samples, self.channels, self.row_size

    @cached_property
    def work_dtype(self) -> np.dtype[Any]:
        """What kernels compute in."""
        return work_dtype(self.dtype)

    @cached_property
    def _order_is_own(self) -> bool:
        return self.order == tuple(range(len(self.order)))

    @cached_property
    def _shape_in_order(self) -> tuple[int, ...]:
        return tuple(self.shape[i] for i in self.order)

    @cached_property
    def _inverse(self) -> tuple[int, ...]:
        return tuple(sorted(range(len(self.order)), key=self.order.__getitem__))

    @cached_property
    def dtype_name(self) -> str:
        """Name of the dtype."""
        return str(self.dtype.name)


@lru_cache(maxsize=1024)  # of layers and batches there are few
def _channel_layout(shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any], axis: int) -> ChannelLayout:
    axis = check_axis(axis, len(shape))
    sample, *trailing = (i for i in range(len(shape)) if i != axis)
    row_size = math.prod(shape[i] for i in trailing)
    first, last = (sample, axis, *trailing), (sample, *trailing, axis)
    is_first, is_last = (_is_contiguous(shape, strides, dtype.itemsize, order) for order in (first, last))
    # In rows of one value, channels are the only axis worth a vector.
    channels_last = row_size == 1 or (is_last and not is_first)
    return ChannelLayout(
        shape,
        np.dtype(dtype.type),
        axis,
        shape[sample],
        shape[axis],
        row_size,
        channels_last,
        last if channels_last else first,
        is_first or is_last,
    )


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, order: tuple[int, ...]) -> bool:
    """Tell whether memory of ``shape`` and ``strides`` is contiguous when its axes are taken in ``order``."""
    if 0 in shape:
        return True
    expected = itemsize
    for i in reversed(order):
        if shape[i] != 1:
            if strides[i] != expected:
                return False
            expected *= shape[i]
    return True


def check_channels(layout: ChannelLayout, channels: int) -> None:
    """Raise ValueError when the channel axis hasn't ``channels`` entries."""
    if layout.channels != channels:
        raise ValueError(f"x must have {channels} channels on axis {layout.axis}, got shape {layout.shape}")


def mask_view(mask: Any, layout: ChannelLayout) -> MaskArray:
    """Return ``mask`` as (N, S) bytes, or raise when it isn't boolean or doesn't broadcast."""
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"mask must have dtype bool, got {mask.dtype}")
    try:
        full: BoolArray = np.broadcast_to(mask, layout.shape_ns)
    except ValueError:
        raise ValueError(
            f"mask must be broadcastable to x without its channel axis, {layout.shape_ns}, got shape {mask.shape}"
        ) from None
    return np.ascontiguousarray(full).reshape(layout.samples, layout.row_size).view(np.uint8)
