"""Random batches and the results of batch normalization on all of their samples or on the samples of one rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from exact.values import KINDS, values
from syncbn import BatchNorm, SyncBatchNorm
from syncbn import functional as F
from syncbn.comm import Communicator

Array = NDArray[Any]


@dataclass(frozen=True)
class Batch:
    """x and dy of (N, C, ...), per-channel weight and bias or None, a mask or None, eps."""

    x: Array
    dy: Array
    weight: Array | None
    bias: Array | None
    mask: Array | None
    eps: float

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        shape: tuple[int, ...],
        dtype: str,
        kinds: tuple[str, str] = ("normal", "normal"),
        *,
        affine: str = "weight+bias",
        masked: float = 0.0,
        eps: float = 1e-5,
    ) -> Batch:
        """Draw x and dy, each of one of the ``kinds``; ``masked`` is the probability that the mask excludes a value."""
        x, dy = (values(kind, rng, shape, dtype) for kind in kinds)
        weight, bias = rng.standard_normal((2, shape[1])).astype(dtype)
        mask = rng.random((shape[0], *shape[2:])) >= masked
        mask.flat[[0, -1]] = True
        return cls(
            x,
            dy,
            weight if "weight" in affine else None,
            bias if "bias" in affine else None,
            mask if masked else None,
            eps,
        )

    def share(self, samples: Array | slice, *, channels_last: bool = False) -> Batch:
        """Return the batch of the given ``samples``, in one of the two memory orders."""
        x, dy = (in_memory(a[samples], channels_last) for a in (self.x, self.dy))
        return Batch(x, dy, self.weight, self.bias, None if self.mask is None else self.mask[samples], self.eps)


@st.composite
def batches(
    draw: st.DrawFn, channels: int | None = None, dtype: str | None = None, kinds: Sequence[str] = KINDS
) -> Batch:
    """Draw batches of all kinds of values, dtypes and shapes, with and without mask, weight and bias."""
    return Batch.random(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        (
            draw(st.integers(2, 12)),
            channels or draw(st.integers(1, 10)),
            *draw(st.sampled_from([(), (1,), (3,), (4, 5), (37,), (2, 3, 3)])),
        ),
        dtype or draw(st.sampled_from(["float16", "float32", "float64"])),
        (
            draw(st.sampled_from(kinds)),
            draw(st.sampled_from(["normal", "offset", "outlier", "cancelling", "constant"])),
        ),
        affine=draw(st.sampled_from(["none", "weight", "weight+bias"])),
        masked=draw(st.sampled_from([0.0, 0.4, 0.9])),
        eps=draw(st.sampled_from([1e-5, 0.0])),
    )


def in_memory(a: Array, channels_last: bool) -> Array:
    """Return a copy of (N, C, ...) in one of the two memory orders."""
    return np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) if channels_last else a.copy()


def normalized(batch: Batch, comm: Communicator | None = None, reduction: str = "exact") -> dict[str, Array]:
    """Return the results of forward and backward that must have the same bits on every number of ranks."""
    y, moments, backward = F.batch_norm(
        batch.x, batch.weight, batch.bias, mask=batch.mask, eps=batch.eps, comm=comm, reduction=reduction
    )
    with np.errstate(all="ignore"):  # gradients of the parameters may overflow float16
        dx, _, _ = backward(batch.dy)
    return {"y": y, "dx": dx, "count": np.float64(moments.count), "mean": moments.mean, "var": moments.var}


def of_samples(results: dict[str, Array], samples: Array) -> dict[str, Array]:
    """Select the given ``samples`` from the results of all samples."""
    return {name: a[samples] if name in ("y", "dx") else a for name, a in results.items()}


def shares_of_gradients(batch: Batch, comm: Communicator | None = None, reduction: str = "exact") -> dict[str, Array]:
    """Return dweight and dbias, which cover only the samples of this rank."""
    _, _, backward = F.batch_norm(
        batch.x, batch.weight, batch.bias, mask=batch.mask, eps=batch.eps, comm=comm, reduction=reduction
    )
    with np.errstate(all="ignore"):
        _, dweight, dbias = backward(batch.dy)
    return {name: a for name, a in (("dweight", dweight), ("dbias", dbias)) if a is not None}


def running(steps: list[Batch], momentum: float | None, comm: Communicator | None = None) -> dict[str, Array]:
    """Return the running statistics of a layer after training steps on these batches."""
    _, channels, *_ = steps[0].x.shape
    dtype = steps[0].x.dtype
    if comm is None:
        layer = BatchNorm(channels, momentum=momentum, dtype=dtype)
    else:
        layer = SyncBatchNorm(channels, momentum=momentum, dtype=dtype, comm=comm)
    with np.errstate(all="ignore"):  # float32 can't hold the variance of values beyond 1e19
        for batch in steps:
            layer(batch.x, batch.mask)
    return {"running_mean": layer.running_mean, "running_var": layer.running_var}
