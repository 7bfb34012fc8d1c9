"""The checked input of batch normalization."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from syncbn._core.batch import MOST_ROWS
from syncbn._core.checks import check_eps, check_floating, check_out, check_parameter, check_same_shape
from syncbn._core.layout import ChannelLayout, MaskArray, check_channels, mask_view
from syncbn.comm import CollectiveSignature
from syncbn.typing import FloatArray

Reduction = Literal["exact", "float64"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)


def check_reduction(reduction: str) -> str:
    """Return ``reduction``, or raise ValueError when there is none of that name."""
    if not (isinstance(reduction, str) and reduction in REDUCTIONS):
        raise ValueError(f"reduction must be 'exact' or 'float64', got {reduction!r}")
    return reduction


def check_name(name: str) -> str:
    """Return the ``name`` of a call, or raise TypeError."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    return str.__str__(name)  # other ranks may not know a class of this one


class BatchInput:
    """What one call was given, as kernels see it.

    Attributes
    ----------
    layout : ChannelLayout
    x, residual, y : ndarray
        Views of the layout; residual may be None; y is to be written.
    mask : ndarray or None
        (N, S) bytes.
    weight, bias : ndarray or None
    weight64, bias64 : ndarray of float64, or None
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
        "mask",
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
    mask: MaskArray | None
    out: FloatArray | None
    residual: FloatArray | None

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
        ranks: int = 1,
        backward_only: bool = False,
    ) -> None:
        x = check_floating(x, "x", min_ndim=2)
        layout = self.layout = ChannelLayout.of(x, channel_axis)
        if channels is not None and layout.channels != channels:
            check_channels(layout, channels)
        if check_reduction(reduction) == "exact" and layout.samples > MOST_ROWS // ranks:
            raise ValueError(
                f"exact sums have room for {MOST_ROWS // ranks} samples on each rank (of {ranks}), got "
                f"{layout.samples}: take reduction='float64'"
            )
        shape = (layout.channels,)
        self.x = layout.view(x)
        self.mask = None if mask is None else mask_view(mask, layout)
        self.weight = check_parameter(weight, "weight", shape)
        self.bias = check_parameter(bias, "bias", shape)
        self.weight64 = None if weight is None else weight.astype(np.float64)  # a copy is aligned
        self.bias64 = None if bias is None else bias.astype(np.float64)
        self.eps = check_eps(eps)
        self.reduction = reduction
        self.relu = bool(relu)
        self.residual = self.out = None
        if residual is not None:
            self.residual = layout.view(_of_x(check_same_shape(residual, layout.shape, "residual"), layout))
        if out is not None:
            self.out = check_out(out, "out", layout.shape, layout.dtype, x, *(() if residual is None else (residual,)))
        if not backward_only:
            self.y = layout.empty(self.out)

    def check_gradient(self, dy: Any) -> FloatArray:
        """Return a gradient of y, or raise."""
        return check_same_shape(dy, self.layout.shape)

    def signature(self, protocol: Any, name: str) -> CollectiveSignature:
        """Return the signature of the forward."""
        affine = "+".join(n for n, p in (("weight", self.weight), ("bias", self.bias)) if p is not None)
        signature: CollectiveSignature = protocol.layer_signature(
            name, self.layout.channels, self.layout.dtype_name, self.reduction, self.eps, affine or "none"
        )
        return signature


def _of_x(residual: FloatArray, layout: ChannelLayout) -> FloatArray:
    if residual.dtype.newbyteorder("=") != layout.dtype:
        raise TypeError(f"residual must have x's dtype {layout.dtype}, got {residual.dtype}")
    return residual
