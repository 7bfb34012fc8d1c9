"""Root-mean-square normalization: layer normalization without the mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from syncbn._dispatch import features as kernels
from syncbn._dispatch.checks import check_eps, check_floating, check_parameter, check_same_shape, to_float64
from syncbn._dispatch.layout import FeatureLayout, parameter_gradients, shape_tuple
from syncbn.typing import FloatArray


def rms_norm(
    x: FloatArray,
    normalized_shape: int | Sequence[int],
    weight: FloatArray | None = None,
    *,
    eps: float | None = None,
) -> tuple[FloatArray, Callable[[FloatArray], tuple[FloatArray, FloatArray | None]]]:
    r"""Divide by the root mean square over the trailing axes ``normalized_shape``.

    Not collective: no statistics cross samples.

    .. math:: y = \gamma\,x/\sqrt{\tfrac{1}{D}\sum_d x_d^2+\epsilon}

    Parameters
    ----------
    x : ndarray, 1 or more axes
        float16, float32 or float64, any memory order.
    normalized_shape : int or sequence of int
        The trailing axes of x, D values in all.
    weight : ndarray of shape ``normalized_shape``, optional
    eps : float, optional
        Finite and at least 0. Default: ``finfo(x.dtype).eps`` (float16: of float32, as in PyTorch).

    Returns
    -------
    y : ndarray
        x's shape, dtype and memory order.
    backward : callable
        ``dx, dweight = backward(dy)``.

    Raises
    ------
    ValueError, TypeError
        Bad input, or x does not end in ``normalized_shape``.

    References
    ----------
    Zhang & Sennrich 2019, arXiv:1910.07467.
    """
    x = check_floating(x, "x", min_ndim=1)
    layout = FeatureLayout.of(x, normalized_shape)
    shape = shape_tuple(normalized_shape)
    weight = check_parameter(weight, "weight", shape)
    x_rd = layout.view(x)
    eps = float(np.finfo(x_rd.dtype).eps) if eps is None else check_eps(eps)
    weight_d = to_float64(weight, shape, 1.0).ravel()
    y_rd, moments_2r = kernels.forward(x_rd, weight_d, np.zeros(layout.features), eps, centred=False)

    def backward(dy: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        dy_rd = layout.view(check_same_shape(dy, layout.shape))
        dx_rd, gradients = kernels.backward(x_rd, dy_rd, weight_d, False, moments_2r)
        return layout.restore(dx_rd), parameter_gradients(gradients, weight, None)[0]

    return layout.restore(y_rd), backward
