"""The windows of the pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

from syncbn.layers.module import Module
from syncbn.nn._checks import Pair, check_input, check_pair
from syncbn.nn._images import output_size, overlap
from syncbn.typing import FloatArray

Index = tuple[EllipsisType, slice, slice]
Tap = tuple[Index, Index]


class Pool2d(Module):
    """The base class of `MaxPool2d` and `AvgPool2d`, which document the parameters."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
    ) -> None:
        super().__init__()
        self.kernel_size: Pair = check_pair("kernel_size", kernel_size)
        self.stride: Pair = check_pair("stride", self.kernel_size if stride is None else stride)
        self.padding: Pair = check_pair("padding", padding, minimum=0)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(f"padding {self.padding} is more than half of kernel_size {self.kernel_size}")

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"

    def _windows(self, x: FloatArray) -> tuple[tuple[int, ...], list[Tap]]:
        """Return the shape of y and, for each tap of the window in row order, its outputs in y and its pixels in x."""
        name = type(self).__name__
        check_input(name, x, ("N", "C", "H", "W"))
        n, c, h, w = x.shape
        (kh, kw), (sh, sw), (ph, pw) = self.kernel_size, self.stride, self.padding
        out_h, out_w = output_size(name, h, kh, sh, ph), output_size(name, w, kw, sw, pw)
        taps: list[Tap] = [
            ((..., y_rows, y_columns), (..., x_rows, x_columns))
            for y_rows, x_rows in (overlap(i, h, out_h, sh, ph) for i in range(kh))
            for y_columns, x_columns in (overlap(j, w, out_w, sw, pw) for j in range(kw))
        ]
        return (n, c, out_h, out_w), taps
