"""The normalizers of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from syncbn._core.checks import Reduction
from syncbn.comm import Communicator
from syncbn.layers import (
    BatchNorm,
    BatchRenorm,
    FilterResponseNorm,
    GhostBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LinearRamp,
    Module,
    RMSNorm,
    SyncBatchNorm,
    WeightNorm,
    WeightStandardization,
)

Network = Literal["mlp", "resnet"]
NormFactory = Callable[[int], Module]

GROUPS = 8
"""Number of groups of Group Normalization: 8 features per group in the widest layers."""

GHOST_BATCH = 8
"""Number of samples of the virtual batches of Ghost Batch Normalization."""


@dataclass(frozen=True)
class Normalizer:
    """One normalizer of the comparison.

    Attributes
    ----------
    label : str
        Name in tables and figures.
    title : str
        Full name.
    layer : callable or None
        ``layer(features, network, comm, reduction)`` returns the layer that follows Dense or Conv2d;
        None if there is no such layer.
    wrap : callable or None
        ``wrap(layer)`` returns the layer that replaces a Dense or Conv2d layer; None keeps it.
    networks : tuple of str
        Networks in which it can be used.
    reason : str
        Reason why other networks cannot use it.
    """

    label: str
    title: str
    layer: Callable[[int, Network, Communicator, Reduction], Module] | None = None
    wrap: Callable[[Module], Module] | None = None
    networks: tuple[Network, ...] = ("mlp", "resnet")
    reason: str = ""


def _layer_norm(features: int, network: Network) -> Module:
    # In convolutional networks LN normalizes over channels and positions, with γ and β per channel (Wu & He 2018).
    return LayerNorm(features) if network == "mlp" else GroupNorm(1, features)


NORMALIZERS: dict[str, Normalizer] = {
    "none": Normalizer("none", "no normalization"),
    "bn": Normalizer("BN", "Batch Normalization", lambda c, _n, _m, _r: BatchNorm(c)),
    "syncbn": Normalizer(
        "SyncBN",
        "synchronized Batch Normalization",
        lambda c, _n, comm, reduction: SyncBatchNorm(c, comm=comm, reduction=reduction),
    ),
    "ghost": Normalizer(
        "GhostBN",
        f"Ghost Batch Normalization, virtual batches of at most {GHOST_BATCH} samples of all ranks",
        lambda c, _n, comm, reduction: GhostBatchNorm(c, GHOST_BATCH, comm=comm, reduction=reduction),
    ),
    "brn": Normalizer(
        "BRN",
        "Batch Renormalization, with limits that grow 50 times as fast as in its paper",
        lambda c, _n, _m, _r: BatchRenorm(c, r_max=LinearRamp(1, 3, 100, 800), d_max=LinearRamp(0, 5, 100, 500)),
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
    "wn": Normalizer("WN", "Weight Normalization", wrap=WeightNorm),
    "ws": Normalizer(
        "WS+GN",
        "Weight Standardization, with Group Normalization",
        lambda c, _n, _m, _r: GroupNorm(GROUPS, c),
        wrap=WeightStandardization,
    ),
    "frn": Normalizer(
        "FRN",
        "Filter Response Normalization, followed by ReLU instead of TLU",
        lambda c, _n, _m, _r: FilterResponseNorm(c, tlu=False),
        networks=("resnet",),
        reason="it needs more than one value per sample and channel",
    ),
    "rms": Normalizer(
        "RMSNorm",
        "Root Mean Square Layer Normalization",
        lambda c, _n, _m, _r: RMSNorm(c),
        networks=("mlp",),
        reason="it normalizes over the last axis, the features of a Dense layer",
    ),
}
"""All normalizers by their name on the command line."""
