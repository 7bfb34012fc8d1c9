"""What layer and root-mean-square normalization share: the statistics of a row of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from syncbn._core import features as kernels
from syncbn._core import plain
from syncbn._core.checks import check_eps, check_floating, check_parameter, check_same_shape, to_float64
from syncbn._core.conversion import parameter_gradients
from syncbn._core.feature_layout import FeatureLayout, shape_tuple
from syncbn.typing import Float64Array, FloatArray

FeaturesBackward = Callable[[FloatArray], tuple[FloatArray, FloatArray | None, FloatArray | None]]


def normalize_features(
    x: Any, normalized_shape: int | Sequence[int], weight: Any, bias: Any, eps: float | None, centred: bool
) -> tuple[FloatArray, FeaturesBackward]:
    """Return y and its backward; without μ unless ``centred``; ``eps`` None is that of x's dtype. Not collective."""
    found: tuple[FloatArray, FeaturesBackward] | None = plain.features and plain.features.forward(
        x, normalized_shape, weight, bias, eps, centred, _backward_of_plain
    )
    if found:
        return found
    x = check_floating(x, "x", min_ndim=1)
    layout = FeatureLayout.of(x, normalized_shape)
    shape = shape_tuple(normalized_shape)
    weight = check_parameter(weight, "weight", shape)
    bias = check_parameter(bias, "bias", shape)
    x_rd = layout.view(x)
    eps = float(np.finfo(x_rd.dtype).eps) if eps is None else check_eps(eps)
    weight_d = to_float64(weight, shape, 1.0).ravel()
    y_rd, moments_2r = kernels.forward(x_rd, weight_d, to_float64(bias, shape, 0.0).ravel(), eps, centred)
    return layout.restore(y_rd), _backward(layout, x_rd, weight, bias, centred, weight_d, moments_2r)


def _backward(
    layout: FeatureLayout,
    x_rd: FloatArray,
    weight: FloatArray | None,
    bias: FloatArray | None,
    centred: bool,
    weight_d: Float64Array,
    moments_2r: Float64Array,
) -> FeaturesBackward:
    def backward(dy: FloatArray) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
        dy_rd = layout.view(check_same_shape(dy, layout.shape))
        dx_rd, gradients = kernels.backward(x_rd, dy_rd, weight_d, centred, moments_2r)
        return layout.restore(dx_rd), *parameter_gradients(gradients, weight, bias)

    return backward


def _backward_of_plain(x: FloatArray, normalized_shape: int | Sequence[int], *rest: Any) -> FeaturesBackward:
    """Return the backward of a forward that has gone the short way, for a dy that can't."""
    layout = FeatureLayout.of(x, normalized_shape)
    return _backward(layout, layout.view(x), *rest)
