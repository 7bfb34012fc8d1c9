"""Root-mean-square normalization: layer normalization without the mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syncbn._core import plans
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
    y, gradients = plans.feature_norm(x, normalized_shape, weight, None, eps, False)

    def backward(dy: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        dx, dweight, _ = gradients(dy)
        return dx, dweight

    return y, backward
