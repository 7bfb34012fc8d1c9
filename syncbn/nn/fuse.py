"""Folding of batch normalization into adjacent layers."""

from __future__ import annotations

import copy
from collections import Counter
from typing import TypeVar

import numpy as np

from syncbn.layers._batch import BatchNormalizer
from syncbn.layers.batch_norm import BatchNorm, SyncBatchNorm
from syncbn.layers.frozen_batch_norm import FrozenBatchNorm
from syncbn.layers.module import Module
from syncbn.layers.parameter import Parameter
from syncbn.nn.conv2d import Conv2d
from syncbn.nn.dense import Dense
from syncbn.nn.sequential import Sequential
from syncbn.typing import Float64Array

ModuleT = TypeVar("ModuleT", bound=Module)

_NORMS = (BatchNorm, SyncBatchNorm, FrozenBatchNorm)


def fuse(model: ModuleT) -> ModuleT:
    r"""Return a copy of a network for evaluation, with batch normalization folded into adjacent layers.

    .. math::

        \text{after a layer:} \quad s\,(W x + b - μ) + β &= (s W)\,x + [s\,(b - μ) + β] \\
        \text{before a layer:} \quad W (s\,(x - μ) + β) + b &= (W s)\,x + [W (β - s μ) + b], \\
        s &= γ / \sqrt{\mathrm{var} + \mathrm{eps}}

    Not collective. In each `Sequential` of ``model``, also inside of other modules, a `BatchNorm`, `SyncBatchNorm` or
    `FrozenBatchNorm` with running statistics is removed if it follows a `Dense` or `Conv2d`, or else precedes a
    `Dense`, or a `Conv2d` without padding. That layer takes the new weight and bias, which are computed in float64 and
    rounded once, so the outputs are those of ``model`` in evaluation except for rounding: relative to σ, an error of
    about 2⁻²⁴·abs(mean) in float32, where the mean of x is large against σ. Layers that occur several times, and
    subclasses of these layers, remain as they are. `summary` shows the numbers of parameters.

    Parameters
    ----------
    model : Module
        It is not changed.

    Returns
    -------
    Module
        The copy, in evaluation mode. To train on, use ``model``.

    Raises
    ------
    TypeError
        ``model`` isn't a Module.

    See Also
    --------
    syncbn.onnx.export : Write the network for inference.

    References
    ----------
    Jacob et al. 2018, Quantization and training of neural networks for efficient integer-arithmetic-only inference,
    section 3.2, arXiv:1712.05877.

    Examples
    --------
    >>> from syncbn import BatchNorm, nn
    >>> nn.fuse(nn.Sequential(nn.Dense(784, 64), nn.ReLU(), BatchNorm(64), nn.Dense(64, 10)).eval())
    Sequential(
      (0): Dense(in_features=784, out_features=64, bias=True)
      (1): ReLU()
      (2): Dense(in_features=64, out_features=10, bias=True)
    )
    """
    if not isinstance(model, Module):
        raise TypeError(f"model must be a Module, got {type(model).__name__}")
    norms = [module for module in model.modules() if isinstance(module, BatchNormalizer)]
    fused = copy.deepcopy(model, memo={id(norm.comm): norm.comm for norm in norms})  # the copy shares communicators
    fused.eval()
    uses = Counter(map(id, _with_repetitions(fused)))
    for _, module in list(fused.named_modules()):
        if isinstance(module, Sequential) and type(module).forward is Sequential.forward:
            module._layers = _fold_all(module, uses)
    return fused


def _with_repetitions(module: Module) -> list[Module]:
    return [module, *(found for _, child in module.named_children() for found in _with_repetitions(child))]


def _fold_all(layers: Sequential, uses: Counter[int]) -> list[Module]:
    once = [layer if uses[id(layer)] == 1 else None for layer in layers]
    kept: list[Module] = []
    for layer, own, following in zip(layers, once, [*once[1:], None], strict=True):
        before = kept[-1] if kept and uses[id(kept[-1])] == 1 else None
        if own is None or not (_fold(before, own, after=True) or _fold(following, own, after=False)):
            kept.append(layer)
    return kept


def _fold(layer: Module | None, norm: Module, *, after: bool) -> bool:
    """Change a layer so that it computes ``norm`` too, after it or before it; return False if that is not possible."""
    if not isinstance(layer, (Dense, Conv2d)) or type(layer) not in (Dense, Conv2d):
        return False
    factors = _factors(norm, 1 if isinstance(layer, Dense) else 3)
    weight = layer.weight.data
    if factors is None or weight.shape[0 if after else 1] != len(factors[0]):
        return False
    scale, mean, beta = factors
    bias = 0.0 if layer.bias is None else layer.bias.data
    if after:
        bias = scale * (bias - mean) + beta
    elif isinstance(layer, Conv2d) and layer.padding != (0, 0):  # zeros at the border, which are not normalized
        return False
    else:
        bias = weight.reshape(*weight.shape[:2], -1).sum(axis=2, dtype=np.float64) @ (beta - scale * mean) + bias
    rows_or_columns = (-1, *[1] * (weight.ndim - 1)) if after else (1, -1, *[1] * (weight.ndim - 2))
    layer.weight = Parameter((weight * scale.reshape(rows_or_columns)).astype(weight.dtype))
    layer.bias = Parameter(bias.astype(weight.dtype))
    return True


@np.errstate(all="ignore")
def _factors(norm: Module, axes_after: int) -> tuple[Float64Array, Float64Array, Float64Array] | None:
    """Return s, μ and β of y = s·(x − μ) + β; None if ``norm`` computes something else, or they are not finite."""
    if not isinstance(norm, (BatchNorm, FrozenBatchNorm)) or type(norm) not in _NORMS:
        return None
    if norm.running_mean is None or norm.running_var is None or norm.channel_axis not in (1, -axes_after):
        return None
    mean = norm.running_mean.astype(np.float64)
    if not np.isfinite(norm.running_var).all():  # y is NaN, but γ/√∞ would be 0
        return None
    gamma = 1.0 if norm.weight is None else np.asarray(norm.weight)
    scale = gamma / np.sqrt(norm.running_var.astype(np.float64) + (norm.eps or 0.0))
    beta = np.zeros_like(mean) if norm.bias is None else np.asarray(norm.bias, np.float64)
    return (scale, mean, beta) if np.isfinite([scale, mean, beta]).all() else None
