"""Weight standardization, which gives the weights of each output zero mean and unit variance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn._core import plans
from syncbn._core.checks import check_axis, check_floating, check_same_shape
from syncbn.functional._kinds import in_kind
from syncbn.typing import FloatArray, ScalarT


@in_kind
def weight_standardization(
    v: NDArray[ScalarT], *, axis: int = 0, eps: float = 1e-5
) -> tuple[NDArray[ScalarT], Callable[[FloatArray], NDArray[ScalarT]]]:
    r"""Return the weight v with zero mean and unit variance for each index of an axis.

    Not collective: the weight is equal on all ranks.

    .. math:: w = \frac{v - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}}

    Each index of ``axis`` has a mean μ and a biased variance var over all other axes.

    Parameters
    ----------
    v : ndarray, 2 or more axes
        Weight before standardization, of dtype float16, float32 or float64. Do not change v before the backward is
        called.
    axis : int
        Axis that is not reduced (0: the outputs of Dense and Conv2d).
    eps : float
        Constant added to the variance, finite and at least 0.

    Returns
    -------
    w : ndarray
        Weight, with v's shape and dtype.
    backward : callable
        ``dv = backward(dw)``.

    Raises
    ------
    ValueError, TypeError
        Invalid input, or a single value per index of the axis, whose variance is 0.

    See Also
    --------
    syncbn.WeightStandardization : The layer.

    References
    ----------
    Qiao, Wang, Liu, Shen & Yuille 2019, Micro-batch training with batch-channel normalization and weight
    standardization, arXiv:1903.10520.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import functional as F
    >>> w, backward = F.weight_standardization(np.random.default_rng(0).standard_normal((8, 3, 3, 3)))
    >>> bool(np.allclose(w.mean(axis=(1, 2, 3)), 0)), bool(np.allclose(w.var(axis=(1, 2, 3)), 1, atol=1e-4))
    (True, True)
    """
    v = check_floating(v, "v", min_ndim=2)
    kept = check_axis(axis, v.ndim, "axis")
    order = (kept, *(i for i in range(v.ndim) if i != kept))
    outputs, *others = shape = [v.shape[i] for i in order]
    size = math.prod(others)
    if size < 2:
        raise ValueError(
            f"weight standardization needs more than 1 value for each index of axis {kept}, got shape {v.shape}"
        )

    def as_v(rows: FloatArray) -> NDArray[Any]:
        return np.ascontiguousarray(rows.reshape(shape).transpose(np.argsort(order)))

    w_od, gradients = plans.feature_norm(v.transpose(order).reshape(outputs, size), size, None, None, eps, True)

    def backward(dw: FloatArray) -> NDArray[ScalarT]:
        """Return dv, given dw."""
        dw_od = check_same_shape(dw, v.shape, "dw").transpose(order).reshape(outputs, size)
        return as_v(gradients(dw_od)[0])

    return as_v(w_od), backward
