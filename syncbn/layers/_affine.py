"""What normalizers with a weight γ and a bias β share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from syncbn._core.checks import check_eps
from syncbn.layers.module import Module
from syncbn.layers.parameter import Parameter
from syncbn.typing import FloatArray


class AffineNormalizer(Module):
    """A normalizer with γ = 1 and β = 0, which weight decay leaves alone.

    Parameters
    ----------
    shape : int or tuple of int
        Of γ and β.
    eps : float or None
    affine : bool
        Whether there is γ.
    bias : bool
        Whether there is β, if there is γ.
    dtype : dtype
        Of γ and β: float16, float32 or float64.
    """

    def __init__(
        self, shape: int | tuple[int, ...], eps: float | None, affine: bool, bias: bool, dtype: DTypeLike
    ) -> None:
        super().__init__()
        self.eps = None if eps is None else check_eps(eps)
        dtype = floating_dtype(dtype)
        self.weight = Parameter(np.ones(shape, dtype), decay=False) if affine else None
        self.bias = Parameter(np.zeros(shape, dtype), decay=False) if affine and bias else None

    def _arrays(self) -> tuple[FloatArray | None, FloatArray | None]:
        """Return γ and β, None for one that is not there."""
        weight, bias = self.weight, self.bias
        return None if weight is None else weight.data, None if bias is None else bias.data

    def _backward(self, gradients: Callable[[FloatArray], tuple[Any, ...]]) -> Callable[[FloatArray], Any]:
        """Return the backward of a layer: it adds to the parameters' ``grad`` and returns dx.

        ``gradients`` returns dx, dweight, dbias and perhaps a residual's gradient, which is then returned too.
        """

        def backward(dy: FloatArray) -> Any:
            dx, dweight, dbias, *dresidual = gradients(dy)
            if self.weight is not None and dweight is not None:
                self.weight.add_grad(dweight)
            if self.bias is not None and dbias is not None:
                self.bias.add_grad(dbias)
            return (dx, *dresidual) if dresidual else dx

        return backward


def floating_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return ``dtype`` in native byte order, or raise TypeError when it isn't float16, float32 or float64."""
    found: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    if found.name not in ("float16", "float32", "float64"):
        raise TypeError(f"dtype must be float16, float32 or float64, got {found}")
    return found
