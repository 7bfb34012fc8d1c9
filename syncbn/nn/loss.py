"""Cross-entropy loss of classifiers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_unmasked
from syncbn._core.pitfalls import see
from syncbn.nn._checks import check_input
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
        Logits are not float32 or float64, or labels are not integers.
    """
    check_input("softmax_cross_entropy", logits, ("N", "K"))
    check_unmasked(labels, "labels")
    labels = np.asarray(labels)
    n, k = logits.shape
    if labels.shape != (n,):
        one_hot = ": one-hot labels become class numbers by labels.argmax(axis=1)" if labels.ndim == 2 else ""
        raise ValueError(
            f"labels have shape {labels.shape}, expected {(n,)} for logits of shape {logits.shape}{one_hot}"
            f"{see('labels')}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}: convert them, as by astype(int){see('labels')}")
    bad = (labels < 0) | (labels >= k)
    if bad.any():
        where = int(np.argmax(bad))
        raise ValueError(
            f"label {labels[where]} of sample {where} is outside 0 to {k - 1}, the classes of {k} logits{see('labels')}"
        )
    if normalizer is None:
        normalizer = max(n, 1)
    elif not 0.0 < normalizer < np.inf:
        raise ValueError(f"normalizer must be positive and finite, got {normalizer!r}")

    samples = np.arange(n)
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    loss = float(np.sum(np.log(sums[:, 0]) - shifted[samples, labels])) / normalizer
    dlogits = exponentials / sums
    dlogits[samples, labels] -= 1.0
    dlogits /= normalizer
    return loss, dlogits.astype(logits.dtype)
