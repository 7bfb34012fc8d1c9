"""oneDNN through PyTorch's tensors for it (``to_mkldnn``), in NCHW, the memory order of the other candidates."""

from __future__ import annotations

from typing import Any

import torch
from case import Candidate
from shapes import EPS, Problem

from baselines.pytorch import ALL, aten, tensors


def forward(problem: Problem) -> Candidate:
    """Return batch normalization in training."""
    x, _, weight, bias, running = _operands(problem)
    batch_norm = torch.native_batch_norm
    return Candidate(lambda: batch_norm(x, weight, bias, *running, True, 0.1, EPS), lambda found: _dense(found[:1]))


def backward(problem: Problem) -> Candidate:
    """Return the gradients dx, dγ and dβ of batch normalization from the saved statistics."""
    x, dy, weight, bias, running = _operands(problem)
    _, mean, invstd = torch.native_batch_norm(x, weight, bias, *running, True, 0.1, EPS)
    gradients = aten.native_batch_norm_backward
    return Candidate(lambda: gradients(dy, x, weight, None, None, mean, invstd, True, EPS, ALL), _dense)


def _operands(problem: Problem) -> tuple[Any, ...]:
    x, dy, weight, bias = tensors(problem)
    return x.to_mkldnn(), dy.to_mkldnn(), weight, bias, (torch.zeros_like(bias), torch.ones_like(bias))


def _dense(found: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.to_dense() if tensor.is_mkldnn else tensor for tensor in found)
