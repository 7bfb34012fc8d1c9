"""Kernels over every element, for both memory orders: allocate, pick the one that fits, call."""

from __future__ import annotations

from typing import Any

import numpy as np

from syncbn._dispatch.kernels import kernels
from syncbn._dispatch.layout import NO_ARRAYS, NO_MASK, ChannelLayout, MaskArray
from syncbn._dispatch.threads import threads_for
from syncbn.typing import Float64Array, FloatArray


def _kernel(name: str, layout: ChannelLayout) -> Any:
    return getattr(kernels, f"{name}_nsc" if layout.channels_last else f"{name}_ncs")


def normalize(
    x: FloatArray,
    layout: ChannelLayout,
    mean_nc: Float64Array,
    scale_nc: Float64Array,
    bias_c: Float64Array,
    residual: FloatArray | None = None,
    relu: bool = False,
    out: FloatArray | None = None,
) -> FloatArray:
    """Return y = (x − μ)·scale + bias as kernels see it; plus ``residual``, and through relu, where that is asked."""
    y = np.empty_like(x) if out is None else out
    if x.size:
        added = NO_ARRAYS[x.dtype] if residual is None else residual
        threads = threads_for(2 * x.nbytes)
        _kernel("normalize", layout)(x, mean_nc, scale_nc, bias_c, added, relu, y, threads)
    return y


def relu_gradient(y: FloatArray, dy: FloatArray, out: FloatArray) -> FloatArray:
    """Return dy where y > 0, else 0, in ``out``."""
    if y.size:
        kernels.relu_gradients(y, dy, out, threads_for(3 * y.nbytes))
    return out


def input_gradient(
    x: FloatArray,
    dy: FloatArray,
    layout: ChannelLayout,
    mean_nc: Float64Array,
    direct_nc: Float64Array,
    shift_nc: Float64Array,
    slope_nc: Float64Array,
    mask_ns: MaskArray = NO_MASK,
    out: FloatArray | None = None,
) -> FloatArray:
    """Return dx = direct·dy − mask·[shift + slope·(x − μ)] as kernels see it. ``out`` may be ``dy``."""
    dx = np.empty_like(x) if out is None else out
    if x.size:
        threads = threads_for(3 * x.nbytes)
        _kernel("input_gradient", layout)(x, dy, mask_ns, mean_nc, direct_nc, shift_nc, slope_nc, dx, threads)
    return dx
