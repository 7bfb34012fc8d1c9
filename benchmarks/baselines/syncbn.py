"""Functions of syncbn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from case import Candidate
from shapes import EPS, Problem

from syncbn import functional as F
from syncbn._core import threads
from syncbn.experiments.normalizers import Reduction


def forward(problem: Problem, reduction: Reduction = "exact") -> Candidate:
    """Return batch normalization in training."""
    x, weight, bias = problem.x, problem.weight, problem.bias
    return Candidate(lambda: F.batch_norm(x, weight, bias, eps=EPS, reduction=reduction), lambda result: result[:1])


def backward(problem: Problem, reduction: Reduction = "exact") -> Candidate:
    """Return the gradients dx, dγ and dβ of batch normalization."""
    _, _, gradients = F.batch_norm(problem.x, problem.weight, problem.bias, eps=EPS, reduction=reduction)
    dy = problem.dy
    return Candidate(lambda: gradients(dy), tuple)


def both(problem: Problem, reduction: Reduction = "exact") -> Candidate:
    """Return forward and backward of batch normalization in training."""
    x, dy, weight, bias = problem.x, problem.dy, problem.weight, problem.bias

    def run() -> tuple[Any, ...]:
        y, _, gradients = F.batch_norm(x, weight, bias, eps=EPS, reduction=reduction)
        return y, *gradients(dy)

    return Candidate(run, tuple)


def both_by_threads(problem: Problem, counts: Sequence[int]) -> dict[str, Candidate]:
    """Return forward and backward of batch normalization in training with each of these numbers of threads."""
    run = both(problem).run
    return {
        f"{count} thread{'s' * (count > 1)}": Candidate(
            run,
            tuple,
            within=lambda count=count: _threads(count),
            threads=max(counts),  # the threads of OpenMP use CPU time while they wait for work
        )
        for count in counts
    }


def inference(problem: Problem) -> Candidate:
    """Return batch normalization in evaluation."""
    x, weight, bias = problem.x, problem.weight, problem.bias
    mean, var = problem.statistics
    return Candidate(lambda: F.batch_norm_inference(x, mean, var, weight, bias, eps=EPS), lambda result: result[:1])


def group_norm(problem: Problem, groups: int) -> Candidate:
    """Return forward and backward of group normalization."""
    x, weight, bias = problem.x, problem.weight, problem.bias
    return _both(lambda: F.group_norm(x, groups, weight, bias, eps=EPS), problem)


def layer_norm(problem: Problem) -> Candidate:
    """Return forward and backward of layer normalization over the channels of a dense layer."""
    x, weight, bias = problem.x, problem.weight, problem.bias
    return _both(lambda: F.layer_norm(x, len(weight), weight, bias, eps=EPS), problem)


def instance_norm(problem: Problem) -> Candidate:
    """Return forward and backward of instance normalization."""
    x, weight, bias = problem.x, problem.weight, problem.bias
    return _both(lambda: F.instance_norm(x, weight, bias, eps=EPS), problem)


def _both(forward: Callable[[], tuple[Any, Any]], problem: Problem) -> Candidate:
    dy = problem.dy

    def run() -> tuple[Any, ...]:
        y, gradients = forward()
        return y, *gradients(dy)

    return Candidate(run, tuple)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the number of threads of the kernels, which is otherwise read from the environment only once."""
    previous = threads.thread_limit
    threads.thread_limit = lambda: count
    try:
        yield
    finally:
        threads.thread_limit = previous
