"""Layer normalization: statistics of each sample's trailing axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syncbn._dispatch import features as kernels
from syncbn._dispatch.checks import check_eps, check_floating, check_parameter, check_same_shape, to_float64
from syncbn._dispatch.layout import FeatureLayout, parameter_gradients, shape_tuple
from syncbn.typing import FloatArray


def layer_norm(
    x: FloatArray,
    normalized_shape: int | Sequence[int],
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
) -> tuple[FloatArray, Callable[[FloatArray], tuple[FloatArray, FloatArray | None, FloatArray | None]]]:
    r"""Normalize over the trailing axes ``normalized_shape``.

    Not collective: no statistics cross samples.

    .. math:: y = \gamma\,(x-\mu_r)/\sqrt{\mathrm{var}_r+\epsilon} + \beta

    with one mean and biased variance per row r, and γ and β per element of a row.

    Parameters
    ----------
    x : ndarray, 1 or more axes
        float16, float32 or float64, any memory order.
    normalized_shape : int or sequence of int
        The trailing axes of x.
    weight, bias : ndarray of shape ``normalized_shape``, optional
    eps : float
        Finite and at least 0.

    Returns
    -------
    y : ndarray
        x's shape, dtype and memory order.
    backward : callable
        ``dx, dweight, dbias = backward(dy)``.

    Raises
    ------
    ValueError, TypeError
        Bad input, or x does not end in ``normalized_shape``.

    References
    ----------
    Ba, Kiros & Hinton 2016, arXiv:1607.06450.
    """
    x = check_floating(x, "x", min_ndim=1)
    layout = FeatureLayout.of(x, normalized_shape)
    shape = shape_tuple(normalized_shape)
    weight = check_parameter(weight, "weight", shape)
    bias = check_parameter(bias, "bias", shape)
    eps = check_eps(eps)
    x_rd = layout.view(x)
    weight_d = to_float64(weight, shape, 1.0).ravel()
    y_rd, moments_2r = kernels.forward(x_rd, weight_d, to_float64(bias, shape, 0.0).ravel(), eps, centred=True)

    def backward(dy: FloatArray) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
        dy_rd = layout.view(check_same_shape(dy, layout.shape))
        dx_rd, gradients = kernels.backward(x_rd, dy_rd, weight_d, True, moments_2r)
        return layout.restore(dx_rd), *parameter_gradients(gradients, weight, bias)

    return layout.restore(y_rd), backward
