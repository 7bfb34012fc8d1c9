"""The batch normalization layers of the networks that costs are measured and predicted for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from syncbn.experiments.networks import BLOCKS, HIDDEN, STEM

Layers = Mapping[tuple[int, ...], int]
"""(channels, *map) of a sample: how many layers have it."""

RESNET50: Layers = {
    (64, 112, 112): 1,
    (64, 56, 56): 6,
    (256, 56, 56): 4,
    (128, 56, 56): 1,
    (128, 28, 28): 7,
    (512, 28, 28): 5,
    (256, 28, 28): 1,
    (256, 14, 14): 11,
    (1024, 14, 14): 7,
    (512, 14, 14): 1,
    (512, 7, 7): 5,
    (2048, 7, 7): 4,
}
"""The 53 layers of ResNet-50 (He et al. 2016, arXiv:1512.03385) at 224×224 pixels."""

MAP = 7
"""Side of the first maps of the residual network that `syncbn compare` trains."""


def _resnet() -> Layers:
    """Return the layers of the residual network: a block has two, and one more where its shortcut is a convolution."""
    side = MAP
    layers: Counter[tuple[int, ...]] = Counter({(STEM, side, side): 1})
    for inside, outside, stride in BLOCKS:
        side = math.ceil(side / stride)
        layers[outside, side, side] += 2 + (stride != 1 or inside != outside)
    return layers


NETWORKS: Mapping[str, Layers] = {"resnet50": RESNET50, "mlp": {(HIDDEN,): 2}, "resnet": _resnet()}
"""ResNet-50, and the two networks of `syncbn compare`."""


def layer_channels(layers: Layers) -> tuple[int, ...]:
    """Return the channels of every layer, equal ones as often as there are layers."""
    return tuple(channels for (channels, *_), count in layers.items() for _ in range(count))
