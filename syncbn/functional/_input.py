"""The checked input of batch normalization."""

from __future__ import annotations

from typing import Any

import numpy as np

from syncbn._dispatch.checks import check_eps, check_floating, check_out, check_parameter, check_same_shape
from syncbn._dispatch.layout import NO_ARRAYS, ChannelLayout, MaskArray, check_channels, mask_view
from syncbn.comm import Call
from syncbn.functional._reductions import find_reduction
from syncbn.typing import Float64Array, FloatArray

NO_PARAMETER: Float64Array = np.empty(0)


class BatchInput:
    """What one call was given, as kernels see it.

    Attributes
    ----------
    layout : ChannelLayout
    x, residual, y : ndarray
        Views of the layout; residual is empty where there is none; y is to be written.
    mask_ns : ndarray
        Bytes; (0, 0) without a mask.
    weight, bias : ndarray or None
    weight64, bias64 : ndarray of float64
        Empty where there is none.
    eps : float
    reduction : str
    relu : bool
    out : ndarray or None
    """

    __slots__ = (
        "bias",
        "bias64",
        "eps",
        "layout",
        "mask_ns",
        "out",
        "reduction",
        "relu",
        "residual",
        "weight",
        "weight64",
        "x",
        "y",
    )

    layout: ChannelLayout
    mask_ns: MaskArray

    def __init__(
        self,
        x: Any,
        weight: Any,
        bias: Any,
        eps: float,
        channel_axis: int,
        mask: Any,
        reduction: str,
        residual: Any = None,
        relu: bool = False,
        out: Any = None,
        channels: int | None = None,
    ) -> None:
        x = check_floating(x, "x", min_ndim=2)
        layout = self.layout = ChannelLayout.of(x, channel_axis)
        if channels is not None and layout.channels != channels:
            check_channels(layout, channels)
        shape = (layout.channels,)
        self.x = layout.view(x)
        self.mask_ns = mask_view(mask, layout)
        self.weight, self.weight64 = _parameter(weight, "weight", shape)
        self.bias, self.bias64 = _parameter(bias, "bias", shape)
        self.eps = check_eps(eps)
        find_reduction(reduction)
        self.reduction = reduction
        self.relu = bool(relu)
        if residual is None:
            self.residual = NO_ARRAYS[self.x.dtype]
        else:
            self.residual = layout.view(_of_x(check_same_shape(residual, layout.shape, "residual"), layout))
        self.out = None
        if out is not None:
            self.out = check_out(out, "out", layout.shape, layout.dtype, x, *(() if residual is None else (residual,)))
        self.y = layout.empty(self.out)

    @property
    def has_residual(self) -> bool:
        """Whether a residual was given (one of no values is as good as none)."""
        return self.residual.shape[0] > 0

    def gradient_view(self, dy: Any) -> FloatArray:
        """Return a gradient of y as kernels see it, or raise."""
        return self.layout.view(check_same_shape(dy, self.layout.shape))

    def call(self, name: str, forward_number: int | None = None) -> Call:
        """Return what ranks compare."""
        affine = "+".join(n for n, p in (("weight", self.weight), ("bias", self.bias)) if p is not None)
        return Call(
            "forward" if forward_number is None else "backward",
            name,
            self.layout.channels,
            self.layout.dtype_name,
            self.reduction,
            self.eps,
            affine or "none",
            forward_number or 0,
        )


def _parameter(array: Any, name: str, shape: tuple[int, ...]) -> tuple[FloatArray | None, Float64Array]:
    parameter = check_parameter(array, name, shape)
    return parameter, NO_PARAMETER if parameter is None else parameter.astype(np.float64)  # a copy is aligned


def _of_x(residual: FloatArray, layout: ChannelLayout) -> FloatArray:
    if residual.dtype.newbyteorder("=") != layout.dtype:
        raise TypeError(f"residual must have x's dtype {layout.dtype}, got {residual.dtype}")
    return residual
