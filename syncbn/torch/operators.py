"""Forward, backward and double backward of batch normalization, as differentiable functions of tensors.

Each is written once as a function that computes, and a pair (``setup``, ``backward``) that differentiates it. From
these, `differentiable` makes an ``autograd.Function``, which eager calls run with little overhead, and an operator of
torch.library, which ``torch.compile`` puts into its graph as it is. A backward needs nothing but saved tensors, so
activation checkpointing and hooks on saved tensors work.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from syncbn._core import plans
from syncbn.comm import CollectiveSignature
from syncbn.torch.agreement import AgreedProtocol
from syncbn.torch.differentiable import differentiable
from syncbn.torch.groups import communicator_of, find_group
from syncbn.torch.tensors import HALF, array_of, optional_array, result_like, rounded

EVALUATION, NO_GRAD, GRAD_UNUSED, GRAD = range(4)
"""Modes of a forward: with running statistics; with those of the batch and without a graph; with a graph that this rank
needs only if another one does; with a graph."""

LAYER = "torch.SyncBatchNorm"
"""Name of the layers whose parameters ranks compare. Those of Keras may be of models that are not distributed."""

ANCHOR = torch.zeros(0, requires_grad=True)
"""An empty tensor that attaches a result to the graph, where only other ranks may need gradients."""


class Settings(NamedTuple):
    """The arguments of a call that are no tensors.

    Attributes
    ----------
    eps : float
    channels : int
        Required number of channels.
    group : int
        Key of the group of ranks that share the statistics; 0 is this process alone.
    name : str
        Identity of the layer, compared across ranks.
    mode : int
        EVALUATION, NO_GRAD, GRAD_UNUSED or GRAD.
    """

    eps: float
    channels: int
    group: int
    name: str
    mode: int

    def protocol(self) -> Any:
        """Return the protocol of the group; None for this process alone, which is all that evaluation needs."""
        return None if self.mode == EVALUATION else communicator_of(self.group)._distributed

    def identity(self, x: Tensor) -> str:
        """Return the identity that ranks compare. Half precision is converted to float32, but must agree too."""
        return f"{self.name} in {str(x.dtype)[6:]}" if x.dtype in HALF else self.name


def _saved(ctx: Any) -> tuple[Any, ...]:
    """Return the saved tensors; if they have changed or were freed, all ranks raise the error."""
    try:
        saved: tuple[Any, ...] = ctx.saved_tensors
    except Exception:
        with _errors_of_all(Settings(*ctx.settings), "backward"):
            raise
    return saved


def _errors_of_all(settings: Settings, operation: str) -> AbstractContextManager[Any]:
    """Return a context whose errors all ranks raise."""
    protocol = settings.protocol()
    if protocol is None:
        return nullcontext()
    errors: AbstractContextManager[Any] = protocol.collective_errors(
        protocol.unknown_signature(operation, settings.name)
    )
    return errors


# ---- Forward


def _normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    anchor: Tensor | None,  # noqa: ARG001  # it attaches the result to the graph
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mask: Tensor | None,
    eps: float,
    channels: int,
    group: int,
    name: str,
    mode: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, the moments, and the integers count, sequence number and whether any rank needs the graph."""
    settings = Settings(eps, channels, group, name, mode)
    arguments = array_of(x), optional_array(weight), optional_array(bias)
    y, out = result_like(x, arguments[0])
    if mode == EVALUATION and running_mean is not None and running_var is not None:
        statistics = array_of(running_mean), array_of(running_var)
        result, plan = plans.batch_norm_inference(
            arguments[0], *statistics, *arguments[1:], eps, 1, None, False, out, channels
        )
        needed = False
    else:
        protocol, parameters = settings.protocol(), arguments[1:] if name.startswith(LAYER) else ()
        agreed = None if protocol is None else AgreedProtocol(protocol, mode == GRAD, mode == NO_GRAD, parameters)
        identity = settings.identity(x)
        result, _, plan = plans.batch_norm(
            *arguments, eps, 1, optional_array(mask), "exact", None, False, out, channels, agreed, identity
        )
        needed = agreed is not None and agreed.agree(identity)
    moments, count, number = plan.state
    numbers = np.array((count, number, needed), np.int64)
    return rounded(y, out, result), torch.from_numpy(moments), torch.from_numpy(numbers)


def _normalize_fake(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    channels = x.shape[1] if x.dim() > 1 else 0
    return torch.empty_like(x), x.new_empty((5, channels), dtype=torch.float64), x.new_empty(3, dtype=torch.int64)


def _normalize_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias, anchor, running_mean, _, mask, *ctx.settings = inputs
    _, moments, numbers = output
    ctx.mark_non_differentiable(moments, numbers)
    ctx.has_bias = bias is not None
    ctx.running = running_mean is not None
    ctx.group = find_group(Settings(*ctx.settings).group)
    ctx.save_for_backward(x, weight, anchor, mask, moments, numbers)


def _normalize_backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Any, ...]:
    x, weight, anchor, mask, moments, numbers = _saved(ctx)
    dx, dweight, dbias = gradients(
        dy, x, weight, anchor, mask, moments, numbers, ctx.has_bias, ctx.running, *ctx.settings
    )
    return dx, dweight if weight is not None else None, dbias if ctx.has_bias else None, *[None] * 9


# ---- Backward


def _differentiate(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    anchor: Tensor | None,  # noqa: ARG001
    mask: Tensor | None,
    moments: Tensor,
    numbers: Tensor,
    has_bias: bool,
    running: bool,
    eps: float,
    channels: int,
    group: int,
    name: str,
    mode: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx and this rank's dweight and dbias, which are empty if there is no such parameter."""
    settings = Settings(eps, channels, group, name, mode)
    count, number, _ = numbers.tolist()
    x_array = array_of(x)
    dx, out = result_like(x, x_array)
    plan = plans.batch_norm_gradient(
        x_array,
        optional_array(weight),
        np.zeros(channels) if has_bias else None,
        eps,
        1,
        optional_array(mask),
        "float64" if running else "exact",
        (moments.numpy(), count, number),
        settings.protocol(),
        settings.identity(x),
    )
    result, *parameters = plan(array_of(dy), out=out)
    dweight, dbias = (torch.empty(0) if found is None else torch.from_numpy(found) for found in parameters)
    return rounded(dx, out, result), dweight if weight is None else dweight.to(weight.dtype), dbias


def _differentiate_fake(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    _, x, weight, _, _, moments, _, has_bias, *_ = arguments
    dweight = x.new_empty(0, dtype=torch.float32) if weight is None else torch.empty_like(weight)
    dbias = moments.new_empty(moments.shape[1]) if has_bias else x.new_empty(0, dtype=torch.float32)
    return torch.empty_like(x), dweight, dbias


def _differentiate_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG001
    dy, x, weight, _, mask, moments, numbers, _, ctx.running, *ctx.settings = inputs
    ctx.masked = mask is not None
    ctx.group = find_group(Settings(*ctx.settings).group)
    ctx.save_for_backward(dy, x, weight, moments, numbers)


def _differentiate_backward(ctx: Any, u: Tensor, v: Tensor, w: Tensor) -> tuple[Any, ...]:
    dy, x, weight, moments, numbers = _saved(ctx)
    ddy, dx, dweight = second_gradients(
        u, v, w, dy, x, weight, moments, numbers, ctx.masked, ctx.running, *ctx.settings
    )
    return ddy, dx, dweight if weight is not None else None, *[None] * 11


# ---- Double backward


def _differentiate_twice(
    u: Tensor,
    v: Tensor,
    w: Tensor,
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    moments: Tensor,
    numbers: Tensor,
    masked: bool,
    running: bool,
    eps: float,
    channels: int,
    group: int,
    name: str,
    mode: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients for dy, x and this rank's share for weight, given those for dx, dweight and dbias.

    In float64, with sums that are not exact. With x̂ = (x − μ)s, means over all ranks, and the linear map
    J(z) = s·(z − mean(z) − x̂·mean(z·x̂)), the backward is dx = γJ(dy), dweight = Σdy·x̂, dbias = Σdy, and its gradients
    are

        ddy     = γJ(u) + v·x̂ + w
        dx      = J(v·dy) − γs·(s·x̂·(cov(u, dy) − p·q) + q·J(dy) + p·J(u)),   p = mean(dy·x̂), q = mean(u·x̂)
        dweight = Σdy·J(u)

    Where the statistics are constants, the means are 0.
    """
    settings = Settings(eps, channels, group, name, mode)
    if masked:
        with _errors_of_all(settings, "double backward"):
            raise NotImplementedError("syncbn.torch has second derivatives of batch normalization only without a mask")
    count, number, _ = numbers.tolist()
    axes = [0, *range(2, x.dim())]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    mean, scale = moments[0].view(shape), moments[2].view(shape)
    gamma = 1.0 if weight is None else weight.double().view(shape)
    g, u64, x_hat = dy.double(), u.double(), (x.double() - mean) * scale
    h = g * v.double().view(shape) if weight is not None else torch.zeros_like(g)
    sums = torch.stack([z.sum(axes) for z in (g, u64, u64 * g, g * x_hat, u64 * x_hat, h, h * x_hat)])
    if running or count == 0:
        sums.zero_()
    elif (protocol := settings.protocol()) is not None:
        signature = CollectiveSignature("double backward", (("channels", channels),), settings.identity(x), True)
        protocol.handshake(signature, None, number)
        protocol.sum(sums.numpy())
    means = (sums / max(count, 1)).view(7, *shape)
    g_mean, u_mean, ug_mean, p, q, h_mean, h_product = means
    j_g = scale * (g - g_mean - x_hat * p)
    j_u = scale * (u64 - u_mean - x_hat * q)
    j_h = scale * (h - h_mean - x_hat * h_product)
    ddy = gamma * j_u
    if weight is not None:
        ddy += v.double().view(shape) * x_hat
    if w.numel():
        ddy += w.double().view(shape)
    covariance = ug_mean - u_mean * g_mean
    dx = j_h - gamma * scale * (scale * x_hat * (covariance - p * q) + q * j_g + p * j_u)
    dweight = torch.empty(0) if weight is None else (g * j_u).sum(axes).to(weight.dtype)
    return torch.empty_like(dy).copy_(ddy), torch.empty_like(x).copy_(dx), dweight


def _differentiate_twice_fake(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    _, _, _, dy, x, weight, *_ = arguments
    dweight = x.new_empty(0, dtype=torch.float32) if weight is None else torch.empty_like(weight)
    return torch.empty_like(dy), torch.empty_like(x), dweight


def _differentiate_thrice(*_: Any) -> Any:
    raise NotImplementedError("syncbn.torch has first and second derivatives of batch normalization, not third ones")


def _no_setup(ctx: Any, inputs: Any, output: Any) -> None:
    """Save nothing."""


normalize: Callable[..., Any] = differentiable(
    "batch_norm", _normalize, _normalize_fake, _normalize_setup, _normalize_backward
)
gradients: Callable[..., Any] = differentiable(
    "batch_norm_backward", _differentiate, _differentiate_fake, _differentiate_setup, _differentiate_backward
)
second_gradients: Callable[..., Any] = differentiable(
    "batch_norm_double_backward", _differentiate_twice, _differentiate_twice_fake, _no_setup, _differentiate_thrice
)
