"""Differentiable functions of tensors, for eager calls and for graphs that are compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def is_traced(tensor: Any) -> bool:
    """Return whether a call is part of a graph that is being compiled, where tensors have no values."""
    return torch.compiler.is_compiling() or type(tensor) not in (Tensor, torch.nn.Parameter)


def differentiable(
    name: str,
    compute: Callable[..., Any],
    fake: Callable[..., Any],
    setup: Callable[..., None],
    backward: Callable[..., Any],
) -> Callable[..., Any]:
    """Return the function ``compute``, made differentiable for eager calls and for compiled ones."""
    operator = torch.library.custom_op(f"syncbn::{name}", compute, mutates_args=())
    operator.register_fake(fake)
    operator.register_autograd(backward, setup_context=setup)

    def forward(ctx: Any, *arguments: Any) -> Any:
        output = compute(*arguments)
        setup(ctx, arguments, output)
        return output

    eager = _function(name, forward=forward, backward=backward)
    transformed = _function(name, forward=compute, setup_context=setup, backward=backward)

    @wraps(compute)
    def call(*arguments: Any) -> Any:
        if is_traced(arguments[0]):
            return operator(*arguments)
        if torch._C._are_functorch_transforms_active():
            return transformed.apply(*arguments)
        return eager.apply(*arguments) if torch.is_grad_enabled() else compute(*arguments)

    return call


def _function(name: str, **methods: Callable[..., Any]) -> Any:
    """Return an ``autograd.Function``.

    One with ``setup_context`` takes part in transformations of torch.func, but for it PyTorch inspects a signature at
    every call.
    """
    return type(name, (torch.autograd.Function,), {key: staticmethod(method) for key, method in methods.items()})
