"""Base class of normalizers with a weight γ and a bias β."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from syncbn._core.checks import check_eps, check_flag
from syncbn.layers.module import Module
from syncbn.layers.parameter import Parameter, floating_dtype, unchanged
from syncbn.typing import FloatArray


class AffineNormalizer(Module):
    """A normalizer with initial γ = 1 and β = 0, to which weight decay does not apply.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of γ and β.
    eps : float or None
        Constant added to the variance.
    affine : bool
        Whether there are γ and β.
    weight, bias : bool
        Whether there is γ, and whether there is β, if ``affine`` is True.
    dtype : dtype
        Dtype of γ and β: float16, float32 or float64.
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        eps: float | None,
        affine: bool,
        weight: bool,
        bias: bool,
        dtype: DTypeLike,
    ) -> None:
        super().__init__()
        self.eps: float | None = None if eps is None else check_eps(eps)
        self.affine: bool = check_flag("affine", affine)
        weight, bias = check_flag("weight", weight), check_flag("bias", bias)
        dtype = floating_dtype(dtype)
        self.weight: Parameter | None = Parameter(np.ones(shape, dtype), decay=False) if affine and weight else None
        self.bias: Parameter | None = Parameter(np.zeros(shape, dtype), decay=False) if affine and bias else None

    def _repr_affine(self, name: str = "affine") -> str:
        """Return what `extra_repr` shows of γ and β."""
        missing = [key for key in ("weight", "bias") if self.affine and getattr(self, key) is None]
        return ", ".join([f"{name}={self.affine}", *(f"{key}=False" for key in missing)])

    def _arrays(self) -> tuple[FloatArray | None, FloatArray | None]:
        """Return γ and β; None for a missing one."""
        weight, bias = self.weight, self.bias
        return None if weight is None else weight.data, None if bias is None else bias.data

    def _backward(self, gradients: Any) -> Callable[[FloatArray], Any]:
        """Return the backward of a layer, which adds to the ``grad`` of the parameters and returns dx.

        ``gradients`` is a plan, the backward that `syncbn._core.plans` returns. Its results are dx, dweight, dbias and,
        if there is a residual, dresidual. It checks that the parameters have not changed, so that on several ranks
        all of them raise the error.
        """
        weight, bias = self.weight, self.bias
        if weight is not None or bias is not None:
            gradients.check = unchanged(type(self).__name__, weight, bias)

        def backward(dy: FloatArray) -> Any:
            """Return dL/dx, given dL/dy, with a residual also dL/dresidual; add to the gradients of the parameters."""
            dx, dweight, dbias, *dresidual = gradients(dy)
            if weight is not None:
                weight.add_grad(dweight)
            if bias is not None:
                bias.add_grad(dbias)
            return (dx, *dresidual) if dresidual else dx

        return backward
