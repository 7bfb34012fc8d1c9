"""Ghost batch normalization, whose statistics are those of virtual batches, parts of a batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn._core import plans
from syncbn._core.checks import Reduction, check_flag, check_input, check_integer, check_name, check_same_shape
from syncbn._core.conversion import parameter64, parameter_gradient
from syncbn.comm import CollectiveSignature, CommLike, Communicator, as_communicator
from syncbn.comm.collective import collective
from syncbn.functional._kinds import in_kind
from syncbn.moments import Moments
from syncbn.pitfalls import see
from syncbn.typing import FloatArray, ScalarT

_BACKWARD = CollectiveSignature("backward of ghost_batch_norm")


class GhostBackward:
    """The backward of `ghost_batch_norm`: ``dx, dweight, dbias = backward(dy)``. Collective if the forward was.

    Parameters
    ----------
    comm : Communicator
    shape : tuple of int
        Shape of x.
    parts : list of (index, callable)
        Index of each virtual batch in x, and its backward.
    parameters : pair of ndarray or None
        weight and bias as they were passed.

    Attributes
    ----------
    check : callable or None
        Set by layers: it raises if parameters have changed.
    """

    def __init__(
        self,
        comm: Communicator,
        shape: tuple[int, ...],
        parts: list[tuple[tuple[slice, ...], Any]],
        parameters: tuple[FloatArray | None, FloatArray | None],
    ) -> None:
        self.check: Callable[[], None] | None = None
        self._comm, self._shape, self._parts, self._parameters = comm, shape, parts, parameters

    @np.errstate(all="ignore")  # infinities and NaN are visible in the result
    def __call__(
        self, dy: FloatArray, *, total: bool = False
    ) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
        """Return dx, dweight and dbias; with ``total``, dweight and dbias are sums over all ranks."""
        with self._comm._protocol.collective_errors(_BACKWARD):
            if self.check is not None:
                self.check()
            check_flag("total", total)
            dy = check_same_shape(dy, self._shape)
        found = [backward(dy[index], total=total) for index, backward in self._parts]
        dx, *sums = zip(*found, strict=True)
        gradients = [
            None if parameter is None else parameter_gradient(np.sum(each, axis=0), parameter)
            for parameter, each in zip(self._parameters, sums, strict=True)
        ]
        return _joined(dx, self._parts[0][0]), gradients[0], gradients[1]

    def __deepcopy__(self, memo: object) -> GhostBackward:
        """Return the backward itself, as `copy.deepcopy` does for functions."""
        return self


@collective(lambda passed: as_communicator(passed.get("comm")))
@in_kind
def ghost_batch_norm(
    x: NDArray[ScalarT],
    virtual_batch_size: int,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    *,
    eps: float = 1e-5,
    channel_axis: int = 1,
    comm: CommLike = None,
    reduction: Reduction = "exact",
    name: str = "",
) -> tuple[NDArray[ScalarT], tuple[Moments, ...], GhostBackward]:
    r"""Normalize each channel with its mean and variance over virtual batches, parts of the batch.

    Collective. The returned backward is collective too.

    .. math:: y = γ\,\frac{x - μ}{\sqrt{\mathrm{var} + \mathrm{eps}}} + β

    The N samples of all ranks of ``comm``, in the order of the ranks, are divided into the fewest virtual batches of at
    most ``virtual_batch_size`` consecutive samples, whose sizes differ by at most one. μ and var are the mean and the
    biased variance of a channel over its virtual batch. So the result does not depend on the number of ranks; each
    virtual batch takes the messages of one call of `batch_norm`.

    Parameters
    ----------
    x : ndarray, 2 or more axes
        Values of this rank, as described in `batch_norm`. Do not change x before the backward is called.
    virtual_batch_size : int
        Maximum number of samples of a virtual batch, over all ranks.
    weight, bias : ndarray of shape (C,), optional
        γ and β. Defaults: 1 and 0.
    eps : float
        Constant added to the variance, finite and at least 0.
    channel_axis : int
        Channel axis of x; -1 is channels-last.
    comm : None, syncbn communicator or mpi4py.MPI.Intracomm
        Ranks whose batches are divided together. None means this process only.
    reduction : {"exact", "float64"}
        How sums are computed, as described in `batch_norm`.
    name : str
        Name of this call, compared between ranks.

    Returns
    -------
    y : ndarray
        Result, with x's shape, dtype and memory order.
    moments : tuple of Moments
        Count, mean and variance of each virtual batch, over all ranks.
    backward : callable
        ``dx, dweight, dbias = backward(dy)``, as described in `batch_norm`; ``total=True`` is accepted too.

    Raises
    ------
    ValueError, TypeError
        Invalid input of this rank, or a single value per channel in a virtual batch (on every rank).
    SyncMismatchError
        Another rank had invalid input, or made a different call.

    See Also
    --------
    syncbn.GhostBatchNorm : The layer.

    References
    ----------
    Hoffer, Hubara & Soudry 2017, Train longer, generalize better, arXiv:1705.08741, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import functional as F
    >>> x = np.random.default_rng(0).normal(5, 2, (64, 3))
    >>> y, moments, backward = F.ghost_batch_norm(x, 32)  # two virtual batches
    >>> bool(np.allclose(y[:32].mean(axis=0), 0)), bool(np.allclose(y[32:].mean(axis=0), 0))
    (True, True)
    """
    comm = as_communicator(comm)
    x, axis = check_input(x, channel_axis)
    size = check_integer("virtual_batch_size", virtual_batch_size)
    name = check_name(name) or "ghost_batch_norm"
    # In float64, so that the gradients of the virtual batches are added before they are rounded.
    weight64 = None if weight is None else parameter64(weight, "weight", (x.shape[axis],))
    bias64 = None if bias is None else parameter64(bias, "bias", (x.shape[axis],))
    sample_axis = 0 if axis else 1
    sizes = comm.allgather((x.shape[sample_axis], x.size // max(x.shape[axis], 1)))
    counts = [samples for samples, _ in sizes]
    _check_values(sum(counts), sum(values for _, values in sizes), size)
    parts, moments, outputs = [], [], []
    for number, own in enumerate(_shares(counts, comm.rank, size)):
        index = (slice(None),) * sample_axis + (own,)
        y, of_batch, backward = plans.batch_norm(
            x[index],
            weight64,
            bias64,
            eps,
            axis,
            None,
            reduction,
            None,
            False,
            None,
            None,
            comm._distributed,
            f"{name}, virtual batch {number} (virtual_batch_size={size})",
        )
        parts.append((index, backward))
        moments.append(of_batch)
        outputs.append(y)
    return _joined(outputs, parts[0][0]), tuple(moments), GhostBackward(comm, x.shape, parts, (weight, bias))


def _check_values(samples: int, values: int, virtual_batch_size: int) -> None:
    """Raise ValueError if a virtual batch has 1 of several samples, each with 1 value per channel."""
    batches = max(-(-samples // virtual_batch_size), 1)
    if values == samples > 1 == samples // batches:
        raise ValueError(
            "ghost_batch_norm needs more than 1 value per channel in each virtual batch, got 1: "
            f"virtual_batch_size={virtual_batch_size} divides {samples} samples, each of 1 value per channel, into "
            f"{batches} virtual batches: pass a larger virtual_batch_size{see('one-value-per-channel')}"
        )


def _shares(counts: list[int], rank: int, virtual_batch_size: int) -> list[slice]:
    """Return this rank's samples in each virtual batch; there is at least one virtual batch."""
    samples, before = sum(counts), sum(counts[:rank])
    batches = max(-(-samples // virtual_batch_size), 1)
    size, more = divmod(samples, batches)  # the first batches have one sample more
    edges = np.arange(batches + 1) * size + np.minimum(range(batches + 1), more)
    own = np.clip(edges - before, 0, counts[rank]).tolist()
    return [slice(start, stop) for start, stop in pairwise(own)]


def _joined(arrays: Any, index: tuple[slice, ...]) -> NDArray[Any]:
    """Join the arrays of the virtual batches along the sample axis, which ``index`` ends with."""
    arrays = [array for array in arrays if array.shape[len(index) - 1]] or arrays[:1]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=len(index) - 1)
