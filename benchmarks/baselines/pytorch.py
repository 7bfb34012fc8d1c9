"""Kernels of PyTorch, called directly: the operators that autograd would call, without its overhead."""

from __future__ import annotations

from typing import Any

import torch
from case import Candidate
from shapes import EPS, Problem

torch.set_num_threads(1)
ALL = [True, True, True]
aten = torch.ops.aten


def forward(problem: Problem) -> Candidate:
    """Return batch normalization in training."""
    x, _, weight, bias = tensors(problem)
    batch_norm = torch.nn.functional.batch_norm
    return Candidate(lambda: batch_norm(x, None, None, weight, bias, training=True, eps=EPS), lambda y: (y,))


def backward(problem: Problem) -> Candidate:
    """Return the gradients dx, dγ and dβ of batch normalization from the saved statistics."""
    x, dy, weight, bias = tensors(problem)
    _, mean, invstd = torch.native_batch_norm(x, weight, bias, None, None, True, 0.1, EPS)
    gradients = aten.native_batch_norm_backward
    return Candidate(lambda: gradients(dy, x, weight, None, None, mean, invstd, True, EPS, ALL), tuple)


def both(problem: Problem) -> Candidate:
    """Return forward and backward of batch normalization in training."""
    x, dy, weight, bias = tensors(problem)

    def run() -> tuple[Any, ...]:
        y, mean, invstd = torch.native_batch_norm(x, weight, bias, None, None, True, 0.1, EPS)
        return y, *aten.native_batch_norm_backward(dy, x, weight, None, None, mean, invstd, True, EPS, ALL)

    return Candidate(run, tuple)


def inference(problem: Problem) -> Candidate:
    """Return batch normalization in evaluation."""
    x, _, weight, bias = tensors(problem)
    mean, var = map(torch.from_numpy, problem.statistics)
    batch_norm = torch.nn.functional.batch_norm
    return Candidate(lambda: batch_norm(x, mean, var, weight, bias, training=False, eps=EPS), lambda y: (y,))


def group_norm(problem: Problem, groups: int) -> Candidate:
    """Return forward and backward of group normalization."""
    x, dy, weight, bias = tensors(problem)
    n, c = x.shape[:2]
    size = x[0, 0].numel()

    def run() -> tuple[Any, ...]:
        y, mean, invstd = torch.native_group_norm(x, weight, bias, n, c, size, groups, EPS)
        return y, *aten.native_group_norm_backward(dy, x, mean, invstd, weight, n, c, size, groups, ALL)

    return Candidate(run, tuple)


def layer_norm(problem: Problem) -> Candidate:
    """Return forward and backward of layer normalization over the channels of a dense layer."""
    x, dy, weight, bias = tensors(problem)
    shape = [len(weight)]

    def run() -> tuple[Any, ...]:
        y, mean, invstd = torch.native_layer_norm(x, shape, weight, bias, EPS)
        return y, *aten.native_layer_norm_backward(dy, x, shape, mean, invstd, weight, bias, ALL)

    return Candidate(run, tuple)


def instance_norm(problem: Problem) -> Candidate:
    """Return forward and backward of instance normalization, in PyTorch a batch normalization of N·C channels."""
    x, dy, weight, bias = tensors(problem)
    n, c = x.shape[:2]
    x_one, dy_one = (tensor.reshape(1, n * c, *x.shape[2:]) for tensor in (x, dy))

    def run() -> tuple[Any, ...]:
        weights, biases = weight.repeat(n), bias.repeat(n)
        y, mean, invstd = torch.native_batch_norm(x_one, weights, biases, None, None, True, 0.1, EPS)
        dx, dweights, dbiases = aten.native_batch_norm_backward(
            dy_one, x_one, weights, None, None, mean, invstd, True, EPS, ALL
        )
        return y.view_as(x), dx.view_as(x), dweights.view(n, c).sum(0), dbiases.view(n, c).sum(0)

    return Candidate(run, tuple)


def tensors(problem: Problem) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return x, dy, γ and β, which share the memory of the problem, in its memory order."""
    x, dy, weight, bias = map(torch.from_numpy, (problem.x, problem.dy, problem.weight, problem.bias))
    if problem.channels_last and not x.is_contiguous(memory_format=torch.channels_last):
        raise ValueError(f"x of shape {problem.shape} is not in channels-last memory for PyTorch")
    return x, dy, weight, bias
