"""The normalizers that are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from syncbn._core.checks import Reduction
from syncbn.comm import Communicator
from syncbn.layers import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, Module, RMSNorm, SyncBatchNorm

Network = Literal["mlp", "resnet"]
NormFactory = Callable[[int], Module]

GROUPS = 8
"""Of Group Normalization: 8 features each in the widest layers."""


@dataclass(frozen=True)
class Normalizer:
    """One entry of the comparison.

    Attributes
    ----------
    label : str
        Name in tables and figures.
    title : str
        Name in full.
    layer : callable or None
        ``layer(features, network, comm, reduction)`` returns a layer to put behind Dense or Conv2d;
        None where there is no such layer.
    wraps : bool
        Whether it replaces the weights of Dense and Conv2d instead (Weight Normalization).
    networks : tuple of str
        Where it can be used.
    reason : str
        Why not elsewhere.
    """

    label: str
    title: str
    layer: Callable[[int, Network, Communicator, Reduction], Module] | None = None
    wraps: bool = False
    networks: tuple[Network, ...] = ("mlp", "resnet")
    reason: str = ""


def _layer_norm(features: int, network: Network) -> Module:
    # In convolutional networks LN is over channels and positions with a γ and β per channel (Wu & He 2018).
    return LayerNorm(features) if network == "mlp" else GroupNorm(1, features)


NORMALIZERS: dict[str, Normalizer] = {
    "none": Normalizer("none", "no normalization"),
    "bn": Normalizer("BN", "Batch Normalization", lambda c, _n, _m, _r: BatchNorm(c)),
    "syncbn": Normalizer(
        "SyncBN",
        "synchronized Batch Normalization",
        lambda c, _n, comm, reduction: SyncBatchNorm(c, comm=comm, reduction=reduction),
    ),
    "gn": Normalizer("GN", "Group Normalization", lambda c, _n, _m, _r: GroupNorm(GROUPS, c)),
    "ln": Normalizer("LN", "Layer Normalization", lambda c, network, _m, _r: _layer_norm(c, network)),
    "in": Normalizer(
        "IN",
        "Instance Normalization",
        lambda c, _n, _m, _r: InstanceNorm(c, affine=True),
        networks=("resnet",),
        reason="it needs more than one value per sample and channel",
    ),
    "wn": Normalizer("WN", "Weight Normalization", wraps=True),
    "rms": Normalizer(
        "RMSNorm",
        "Root Mean Square Layer Normalization",
        lambda c, _n, _m, _r: RMSNorm(c),
        networks=("mlp",),
        reason="it is over the last axis, the features of a Dense layer",
    ),
}
"""All normalizers by the name that the command takes."""
