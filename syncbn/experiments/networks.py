"""The networks that are trained, with a selectable normalizer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from syncbn._core.checks import Reduction
from syncbn.comm import Communicator
from syncbn.experiments.normalizers import NORMALIZERS, Network, NormFactory
from syncbn.layers import Module
from syncbn.nn import Conv2d, Dense, Flatten, GlobalAvgPool2d, ReLU, ResidualBlock, Sequential

HIDDEN = 64
STEM = 16
BLOCKS = ((16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1))
"""(in_channels, out_channels, stride) of the residual blocks, whose outputs have 7×7, 4×4 and 2×2 pixels."""


def build_network(
    network: Network,
    norm: str,
    seed: int,
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    comm: Communicator,
    reduction: Reduction = "exact",
) -> Sequential:
    """Return a new network.

    Not collective, but all ranks must build their networks in the same order, which identifies synchronized
    layers. A seed gives the same initial weights for every normalizer.

    Parameters
    ----------
    network : {"mlp", "resnet"}
        Two hidden layers of 64 features, or a convolution to 16 channels and five residual blocks.
    norm : str
        Key of `NORMALIZERS`.
    seed : int
    image_shape : tuple of int
        (channels, height, width) of the input.
    classes : int
        Number of outputs.
    comm : Communicator
        Communicator of the synchronized layers.
    reduction : {"exact", "float64"}
    """
    entry = NORMALIZERS[norm]
    layer = entry.layer
    factory: NormFactory | None = None if layer is None else lambda features: layer(features, network, comm, reduction)
    rng = np.random.default_rng(seed)
    body = _mlp(image_shape, factory, rng) if network == "mlp" else _resnet(image_shape, factory, rng)
    if entry.wrap is not None:
        wrap_layers(body, entry.wrap)
    return Sequential(*body, Dense(HIDDEN, classes, rng=rng))


def wrap_layers(module: Module, wrap: Callable[[Module], Module]) -> None:
    """Replace every Dense and Conv2d of the Sequentials inside ``module`` by what ``wrap`` returns for it."""
    sequentials = [child for _, child in module.named_modules() if isinstance(child, Sequential)]
    for sequential in sequentials:
        for position, layer in enumerate(sequential):
            if isinstance(layer, (Dense, Conv2d)):
                sequential[position] = wrap(layer)


def _mlp(image_shape: tuple[int, int, int], norm: NormFactory | None, rng: np.random.Generator) -> Sequential:
    def hidden(features: int) -> list[Module]:
        dense = Dense(features, HIDDEN, rng=rng)
        return [dense, ReLU()] if norm is None else [dense, norm(HIDDEN), ReLU()]

    channels, height, width = image_shape
    return Sequential(Flatten(), *hidden(channels * height * width), *hidden(HIDDEN))


def _resnet(image_shape: tuple[int, int, int], norm: NormFactory | None, rng: np.random.Generator) -> Sequential:
    stem = Conv2d(image_shape[0], STEM, 3, padding=1, bias=norm is None, rng=rng)
    start: list[Module] = [stem, ReLU()] if norm is None else [stem, norm(STEM), ReLU()]
    blocks = [ResidualBlock(*block, norm, rng=rng) for block in BLOCKS]
    return Sequential(*start, *blocks, GlobalAvgPool2d())
