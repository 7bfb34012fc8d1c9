"""Synchronized batch normalization with torch.distributed and gloo, because PyTorch's layer rejects CPU tensors.

Forward and backward send one message each. Sums over ranks are in float64; everything else uses the fastest kernels of
PyTorch: one fused kernel for the local sums and one to normalize.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from case import Candidate
from shapes import EPS, Problem

from baselines.pytorch import aten, tensors

LocalSums = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def start(file: Path, rank: int, size: int) -> None:
    """Initialize the process group of all ranks, which connect through a file. Collective."""
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=size)


def stop() -> None:
    """Destroy the process group. Collective."""
    dist.destroy_process_group()


def moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and the biased variance of each channel on this rank, by PyTorch's kernel for moments."""
    mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
    return mean, var


def shifted_sums(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the results of `moments` computed from Σx and Σx·(x − x₀), where x₀ is the first value of the channel.

    These sums are dβ and dγ of a batch normalization with dy = x, mean x₀ and 1/σ = 1, for which PyTorch's kernel is
    several times faster than that for moments.
    """
    first = x[0].flatten(1)[:, 0].contiguous()
    ones = torch.ones_like(first)
    keep = [False, True, True]
    _, products, sums = aten.native_batch_norm_backward(x, x, ones, None, None, first, ones, True, 0.0, keep)
    count = x.numel() // len(first)
    mean = sums / count
    return mean, products / count - mean * (mean - first)


def both(problem: Problem, local: LocalSums) -> Candidate:
    """Return forward and backward with ``local`` for the local sums."""
    x, dy, weight, bias = tensors(problem)
    count, channels = x.numel() // len(weight), len(weight)
    shape = (channels, *[1] * (x.ndim - 2))
    keep = [False, True, True]

    def run() -> tuple[Any, ...]:
        mean_local, var_local = (moment.double() for moment in local(x))
        sums = torch.empty(2 * channels + 1, dtype=torch.float64)
        torch.mul(mean_local, count, out=sums[:channels])
        torch.mul(var_local + mean_local.square(), count, out=sums[channels:-1])
        sums[-1] = count
        dist.all_reduce(sums)
        total = sums[-1].item()
        mean64 = sums[:channels] / total
        var64 = sums[channels:-1] / total - mean64.square()
        mean, var = mean64.float(), var64.float()
        y = torch.nn.functional.batch_norm(x, mean, var, weight, bias, training=False, eps=EPS)

        invstd64 = torch.rsqrt(var64 + EPS)
        invstd = invstd64.float()
        _, dweight, dbias = aten.native_batch_norm_backward(dy, x, weight, None, None, mean, invstd, True, EPS, keep)
        gradients = torch.cat((dweight, dbias)).double()
        dist.all_reduce(gradients)
        # dx = γ/σ·(dy − mean(dy) − (x − μ)/σ·mean(dy·(x − μ)/σ)): normalize x once more, then add γ/σ·dy.
        scale = weight * invstd
        b = (gradients[channels:] / total).float() * scale
        c = (gradients[:channels] / total).float() * scale
        dx = torch.nn.functional.batch_norm(x, mean, var, -c, -b, training=False, eps=EPS)
        dx.addcmul_(dy, scale.view(shape))
        return y, dx, dweight, dbias

    return Candidate(run, tuple)
