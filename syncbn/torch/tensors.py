"""Tensors of PyTorch as the arrays that kernels take, and their results as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from syncbn._core.checks import shown
from syncbn.pitfalls import see

HALF = (torch.float16, torch.bfloat16)
"""Dtypes that are converted to float32, which holds all their values."""


def check_input(x: Any) -> None:
    """Raise TypeError unless x is a tensor of floating-point numbers."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"x must be a tensor of PyTorch, got {type(x).__name__}: convert it, an array by torch.from_numpy()"
            f"{see('arrays-of-other-libraries')}"
        )
    if x.dtype not in (*HALF, torch.float32, torch.float64):
        raise TypeError(
            f"x must have dtype bfloat16, float16, float32 or float64, got {str(x.dtype)[6:]}: convert it, as by "
            f".float(){see('dtypes')}"
        )


def check_module(module: Any) -> None:
    """Raise TypeError unless this is a module of PyTorch."""
    if not isinstance(module, nn.Module):
        origin = " of syncbn" if type(module).__module__.startswith("syncbn.") else ""
        raise TypeError(f"expected a torch.nn.Module, got {shown(module)}{origin}")


def array_of(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor as an array, which shares its memory unless it is of half precision.

    NumPy has no bfloat16, and float32 holds all its values; results are rounded once, to nearest.
    """
    if not tensor.is_cpu:
        raise TypeError(f"syncbn.torch normalizes tensors on the CPU, got one on {tensor.device}: call its .cpu()")
    array: NDArray[Any] = (tensor.float() if tensor.dtype in HALF else tensor).numpy(force=True)
    return array


def optional_array(tensor: Tensor | None) -> NDArray[Any] | None:
    """Return a tensor as an array, or None."""
    return None if tensor is None else array_of(tensor)


def result_like(x: Tensor, array: NDArray[Any]) -> tuple[Tensor, NDArray[Any] | None]:
    """Return a new tensor in x's memory format, and its array if results can be written to it directly.

    ``array`` is that of x. NumPy allocates the memory, because it asks Linux for huge pages where arrays are large.
    """
    if x.dtype in HALF:
        return torch.empty_like(x), None
    result = np.empty_like(array)
    return torch.from_numpy(result), result


def rounded(result: Tensor, written: NDArray[Any] | None, array: NDArray[Any]) -> Tensor:
    """Return the result, to which ``array`` is rounded unless it was written to it."""
    return result if written is not None else result.copy_(torch.from_numpy(array))
