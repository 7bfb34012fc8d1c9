"""Error bounds of the results of one batch, checked for each channel against exact rationals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exact import rational
from exact.batches import Batch
from syncbn import functional as F
from syncbn.comm import Communicator

Array = NDArray[Any]

ROUNDING = {"float16": 2.0**-10, "float32": 4e-7, "float64": 0.0}
"""Error of y, and of the last rounding of dx, relative to the largest of a channel; float64 has only `arithmetic`."""

GRADIENTS = {"float16": 4e-7, "float32": 4e-7, "float64": 0.0}
"""Error of gradients, which are computed in float32, relative to the sum of the magnitudes of their terms."""


def arithmetic(batch: Batch) -> float:
    """Return the error of arithmetic in float64 (for all dtypes), to be multiplied by 1 + |mean|/std.

    A row of S values is summed in 16 lanes, with S/16 roundings in each.
    """
    return (16 + batch.x[0, 0].size / 16) * 2.0**-52


def assert_bounds(
    batch: Batch, *, reduction: str = "exact", var_noise: float = 0.0, comm: Communicator | None = None
) -> None:
    """Compute y, the moments and all gradients of ``batch`` and check them. Collective.

    ``batch`` has the samples of all ranks of ``comm``; rank r takes every size-th sample, starting with sample r.
    """
    rank, size = (comm.rank, comm.size) if comm else (0, 1)
    mine = slice(rank, None, size)
    part = batch.share(mine)
    y, moments, backward = F.batch_norm(
        part.x, part.weight, part.bias, eps=part.eps, mask=part.mask, comm=comm, reduction=reduction
    )
    with np.errstate(all="ignore"):  # some gradients exceed the range of the dtype
        dx, dweight, dbias = backward(part.dy)
    results = {"y": y, "mean": moments.mean, "var": moments.var, "dx": dx}
    if size == 1:  # on several ranks each has only its share of these
        results |= {name: a for name, a in (("dweight", dweight), ("dbias", dbias)) if a is not None}
    assert_results(results, batch, mine, var_noise=var_noise)


def assert_results(
    results: Mapping[str, Array], batch: Batch, mine: slice = slice(None), *, var_noise: float = 0.0
) -> None:
    """Check results by name; y and dx are those of the samples ``mine``, the others of the whole batch.

    ``var_noise`` is a further error that var may have, relative to Σx²/n.
    """
    exact = rational.batch_norm(batch.x, batch.dy, batch.weight, batch.bias, batch.eps, batch.mask)
    condition = arithmetic(batch) * exact.condition + var_noise * exact.condition**2
    rounding, dtype = ROUNDING[batch.x.dtype.name], np.finfo(batch.x.dtype)
    relative, terms = np.maximum(rounding, condition), GRADIENTS[batch.x.dtype.name] + condition
    tiny = float(dtype.smallest_subnormal)
    expected = {
        "mean": (exact.mean, arithmetic(batch) * rational.largest(batch.x.astype(float))),
        "var": (exact.var, relative * exact.var),
        "y": (exact.y[mine], relative * rational.largest(exact.y) + tiny),
        "dx": (exact.dx[mine], rounding * rational.largest(exact.dx) + terms * exact.dx_terms + tiny),
        "dweight": (exact.dweight, float(dtype.eps) * abs(exact.dweight) + terms * exact.dweight_terms + tiny),
        "dbias": (exact.dbias, float(dtype.eps) * abs(exact.dbias) + terms * exact.dbias_terms + tiny),
    }
    for name in results.keys() & expected.keys():
        _check(name, results[name], *expected[name])


def _check(name: str, actual: Array, exact: Array, allowed: Array) -> None:
    if actual.size:
        error = rational.error(actual, exact)
        text = ", ".join(f"{float(e):.3g} > {float(a):.3g}" for e, a in zip(error, allowed, strict=True) if not e <= a)
        assert not text, f"{name}: error > bound in some channels: {text}"
