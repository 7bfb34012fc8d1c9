"""The error bounds of one batch, channel by channel, against exact rationals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exact import rational
from exact.batches import Batch
from syncbn import functional as F
from syncbn.comm import Communicator

Array = NDArray[Any]

ROUNDING = {"float16": 2.0**-10, "float32": 4e-7, "float64": 0.0}
"""Of the largest |y| or |dx| of a channel. float64's is the next."""


def arithmetic(batch: Batch) -> float:
    """Return the error of computing in float64, as all dtypes are, to be multiplied with 1 + |mean|/std.

    A row of S values is summed in 16 lanes, with S/16 roundings in each.
    """
    return (16 + batch.x[0, 0].size / 16) * 2.0**-52


def assert_bounds(
    batch: Batch, *, reduction: str = "exact", var_noise: float = 0.0, comm: Communicator | None = None
) -> None:
    """Check y, the moments and all gradients.

    ``batch`` has the samples of all ranks of ``comm``; rank r takes every size-th of them from r on. ``var_noise``
    is what var may lose besides, as a share of Σx²/n.
    """
    rank, size = (comm.rank, comm.size) if comm else (0, 1)
    mine = slice(rank, None, size)
    part = batch.share(mine)
    y, moments, backward = F.batch_norm(
        part.x, part.weight, part.bias, eps=part.eps, mask=part.mask, comm=comm, reduction=reduction
    )
    with np.errstate(all="ignore"):  # gradients that the dtype can't hold
        dx, dweight, dbias = backward(part.dy)
    exact = rational.batch_norm(batch.x, batch.dy, batch.weight, batch.bias, batch.eps, batch.mask)
    inside = arithmetic(batch) * exact.condition + var_noise * exact.condition**2
    of_y, of_x = ROUNDING[part.x.dtype.name], np.finfo(part.x.dtype)
    relative = np.maximum(of_y, inside)
    tiny = float(of_x.smallest_subnormal)
    _check("mean", moments.mean, exact.mean, arithmetic(batch) * rational.largest(batch.x.astype(float)))
    _check("var", moments.var, exact.var, relative * exact.var)
    _check("y", y, exact.y[mine], relative * rational.largest(exact.y) + tiny)
    _check("dx", dx, exact.dx[mine], of_y * rational.largest(exact.dx) + inside * exact.dx_terms + tiny)
    if size == 1:  # else they are shares
        own = float(of_x.eps)
        for name, share in (("dweight", dweight), ("dbias", dbias)):
            if share is not None:
                whole, terms = getattr(exact, name), getattr(exact, f"{name}_terms")
                _check(name, share, whole, own * abs(whole) + inside * terms + tiny)


def _check(name: str, actual: Array, exact: Array, allowed: Array) -> None:
    if actual.size:
        error = rational.error(actual, exact)
        text = ", ".join(f"{float(e):.3g} of {float(a):.3g}" for e, a in zip(error, allowed, strict=True))
        assert (error <= allowed).all(), f"{name}: error and what is allowed: {text}"
