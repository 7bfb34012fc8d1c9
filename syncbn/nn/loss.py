"""Losses: cross-entropy of classifiers, and the mean squared error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_unmasked, hint, shown
from syncbn.layers._losses import Loss, remember_loss
from syncbn.nn._checks import as_number, check_dtype, check_input, hint_labels
from syncbn.pitfalls import see
from syncbn.typing import FloatArray


@np.errstate(all="ignore")  # non-finite logits give a loss of NaN without a warning
def softmax_cross_entropy(
    logits: FloatArray, labels: NDArray[np.integer], normalizer: float | None = None
) -> tuple[float, FloatArray]:
    """Return −Σₙ log softmax(logits[n])[labels[n]] / normalizer and its gradient.

    The computation is in float64 and subtracts the largest logit, so it cannot overflow. Not collective: if every rank
    passes the size of the *global* batch as normalizer, the sums of losses and gradients over ranks are those of the
    whole batch, for any split of the samples.

    Parameters
    ----------
    logits : ndarray of float32 or float64, shape (N, K)
    labels : ndarray of integers, shape (N,)
        Class numbers, 0 to K−1.
    normalizer : float, optional
        None means N, which gives the mean over the samples of this process.

    Returns
    -------
    loss : float
        0 for an empty batch.
    dlogits : ndarray of logits' shape and dtype
        (softmax − onehot) / normalizer.

    Raises
    ------
    ValueError
        A shape is wrong, a label is outside 0 to K−1, or the normalizer is not positive and finite.
    TypeError
        Logits are not float32 or float64, labels are not integers, or the normalizer is not a number.

    See Also
    --------
    syncbn.nn.mean_squared_error : The loss of a regression.
    syncbn.train.sum_gradients : Sums over ranks.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> loss, dlogits = nn.softmax_cross_entropy(np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([1, 0]))
    >>> round(loss, 4), dlogits.round(4)
    (0.3709, array([[ 0.25  , -0.25  ],
           [-0.0237,  0.0237]]))
    >>> # On several ranks, divide by the number of samples of all of them:
    >>> loss, dlogits = nn.softmax_cross_entropy(np.array([[0.0, 0.0]]), np.array([1]), 8)
    >>> round(loss * 8, 4)
    0.6931
    """
    try:
        check_input("softmax_cross_entropy", logits, ("N", "K"))
    except (TypeError, ValueError):
        if getattr(logits, "ndim", 0) == 1 and getattr(labels, "ndim", 0) == 2:
            raise TypeError("softmax_cross_entropy expects logits and then labels, got labels first") from None
        raise
    labels = _as_array("labels", labels)
    n, k = logits.shape
    if labels.shape != (n,):
        raise ValueError(
            f"labels have shape {labels.shape}, expected {(n,)} for logits of shape {logits.shape}"
            f"{hint_labels('labels', labels)}{see('labels')}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}: convert them, as by astype(int){see('labels')}")
    bad = (labels < 0) | (labels >= k)
    if bad.any():
        where = int(np.argmax(bad))
        raise ValueError(
            f"label {labels[where]} of sample {where} is outside 0 to {k - 1}, the classes of {k} logits{see('labels')}"
        )
    divisor = _checked(normalizer, n)

    samples = np.arange(n)
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    loss = float(np.sum(np.log(sums[:, 0]) - shifted[samples, labels])) / divisor
    dlogits = exponentials / sums
    dlogits[samples, labels] -= 1.0
    dlogits /= divisor
    return loss, _remembered(dlogits.astype(logits.dtype), divisor, normalizer)


@np.errstate(all="ignore")  # values that are not finite give a loss of NaN without a warning
def mean_squared_error(
    y: FloatArray, targets: NDArray[np.floating], normalizer: float | None = None
) -> tuple[float, FloatArray]:
    """Return Σₙ mean((y[n] − targets[n])²) / normalizer and its gradient.

    The computation is in float64. Not collective: as in `softmax_cross_entropy`, every rank passes the size of the
    *global* batch as normalizer.

    Parameters
    ----------
    y : ndarray of float32 or float64, shape (N, ...)
    targets : ndarray of real numbers, of y's shape
    normalizer : float, optional
        None means N, which gives the mean over the samples of this process.

    Returns
    -------
    loss : float
        0 for an empty batch.
    dy : ndarray of y's shape and dtype
        2·(y − targets) / (values per sample · normalizer).

    Raises
    ------
    ValueError
        The shapes differ, or the normalizer is not positive and finite.
    TypeError
        y is not float32 or float64, or targets or the normalizer are not real numbers.

    See Also
    --------
    syncbn.nn.softmax_cross_entropy : The loss of a classification.
    syncbn.train.sum_gradients : Sums over ranks.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import nn
    >>> loss, dy = nn.mean_squared_error(np.array([[1.0], [2.0]]), np.array([[0.0], [0.0]]))
    >>> loss, dy
    (2.5, array([[1.],
           [2.]]))
    """
    check_dtype("mean_squared_error", y)
    targets = _as_array("targets", targets)
    if y.ndim == 0 or targets.shape != y.shape:  # (N,) and (N, 1) would be broadcast to (N, N)
        raise ValueError(f"expected y and targets of one shape (N, ...), got {y.shape} and {targets.shape}")
    if targets.dtype.kind not in "biuf":
        raise TypeError(f"targets must be real numbers, got {targets.dtype}")
    divisor = _checked(normalizer, len(y))
    differences = y.astype(np.float64) - targets
    values = max(math.prod(y.shape[1:]), 1) * divisor
    loss = float(np.sum(differences * differences)) / values
    return loss, _remembered((2.0 / values * differences).astype(y.dtype), divisor, normalizer)


def _as_array(name: str, values: Any) -> NDArray[Any]:
    """Return labels or targets as an array; raise TypeError for a masked array or the result of a layer."""
    check_unmasked(values, name)
    if isinstance(values, tuple) and any(map(callable, values)):
        raise TypeError(f"{name} must be an array, got {shown(values)}{hint(values)}")
    return np.asarray(values)


def _checked(normalizer: float | None, samples: int) -> float:
    """Return the normalizer; None means the number of samples."""
    if normalizer is None:
        return max(samples, 1)
    number = as_number("normalizer", normalizer, _NORMALIZER)
    if not 0.0 < number < np.inf:
        raise ValueError(f"normalizer must be positive and finite, got {normalizer!r}")
    return number


_NORMALIZER = (
    ": for the mean, pass the number of samples of all ranks, or None for those of this process; for the sum, pass 1"
    + see("losses-of-ranks")
)


def _remembered(gradient: FloatArray, divisor: float, normalizer: float | None) -> FloatArray:
    """Return the gradient, which is remembered with its numbers of samples."""
    remember_loss(gradient, Loss(len(gradient), divisor, given=normalizer is not None))
    return gradient
