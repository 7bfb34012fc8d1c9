"""Synchronized batch normalization on torch.distributed with gloo: PyTorch's own layer refuses CPU tensors.

One message forward and one backward. Sums over ranks are in float64; everything else is what PyTorch
computes fastest: one fused kernel for the local sums, one to normalize.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from case import Candidate
from shapes import EPS, Problem

from peers.pytorch import aten, tensors

LocalSums = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def start(meeting_point: Path, rank: int, size: int) -> None:
    """Join the process group of all ranks, which meet in a file. Collective."""
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=size)


def stop() -> None:
    """Leave the process group. Collective."""
    dist.destroy_process_group()


def moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return this rank's mean and biased variance of each channel, by PyTorch's kernel for them."""
    mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
    return mean, var


def shifted_sums(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same from Σx and Σx·(x − x₀), x₀ the channel's first value.

    These are dβ and dγ of a batch normalization with dy = x, mean x₀ and 1/σ = 1, and PyTorch's kernel for
    those is several times as fast as that for moments.
    """
    first = x[0].flatten(1)[:, 0].contiguous()
    ones = torch.ones_like(first)
    keep = [False, True, True]
    _, products, sums = aten.native_batch_norm_backward(x, x, ones, None, None, first, ones, True, 0.0, keep)
    count = x.numel() // len(first)
    mean = sums / count
    return mean, products / count - mean * (mean - first)


def both(problem: Problem, local: LocalSums) -> Candidate:
    """Forward and backward, with this way to take local sums."""
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
        slope = (gradients[:channels] / total).float() * scale
        shift = (gradients[channels:] / total).float() * scale
        dx = torch.nn.functional.batch_norm(x, mean, var, -slope, -shift, training=False, eps=EPS)
        dx.addcmul_(dy, scale.view(shape))
        return y, dx, dweight, dbias

    return Candidate(run, tuple)
