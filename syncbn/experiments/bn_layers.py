"""Batch normalization layers of the networks whose costs are measured and predicted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from syncbn.experiments.networks import BLOCKS, HIDDEN, STEM

Layers = Mapping[tuple[int, ...], int]
"""Number of layers for each shape (channels, *spatial axes) of a sample."""

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
"""The 53 batch normalization layers of ResNet-50 (He et al. 2016, arXiv:1512.03385) at 224×224 pixels."""

FIRST_SIDE = 7
"""Height and width of the first layer of the residual network of `syncbn compare`."""


def _resnet() -> Layers:
    """Return the layers of the residual network: two per block, three if the shortcut is a convolution."""
    side = FIRST_SIDE
    layers: Counter[tuple[int, ...]] = Counter({(STEM, side, side): 1})
    for in_channels, out_channels, stride in BLOCKS:
        side = math.ceil(side / stride)
        layers[out_channels, side, side] += 2 + (stride != 1 or in_channels != out_channels)
    return layers


NETWORKS: Mapping[str, Layers] = {"resnet50": RESNET50, "mlp": {(HIDDEN,): 2}, "resnet": _resnet()}
"""Layers of ResNet-50 and of the two networks of `syncbn compare`."""


def layer_channels(layers: Layers) -> tuple[int, ...]:
    """Return the number of channels of every layer."""
    return tuple(channels for (channels, *_), count in layers.items() for _ in range(count))
