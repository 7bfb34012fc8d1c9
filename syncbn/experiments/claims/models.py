"""The networks that claims train."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from syncbn.comm import SERIAL, Communicator
from syncbn.experiments.normalizers import NORMALIZERS, NormFactory
from syncbn.layers import BatchNorm, Module
from syncbn.nn import Dense, Dropout, Flatten, ReLU, Sequential, he_normal
from syncbn.nn.activations import Activation
from syncbn.typing import FloatArray

Placement = Literal["before", "after"]

WIDTH = 64
"""Units of each hidden layer."""


def normalizer(name: str, comm: Communicator = SERIAL) -> NormFactory | None:
    """Return the function that makes a normalizer for an MLP, None if it has no layer.

    Not collective.

    Parameters
    ----------
    name : str
        Key of `NORMALIZERS`.
    comm : Communicator
        Ranks of a synchronized layer.
    """
    layer = NORMALIZERS[name].layer
    return None if layer is None else lambda features: layer(features, "mlp", comm, "exact")


def mlp(
    pixels: int,
    classes: int,
    seed: int,
    norm: NormFactory | None,
    *,
    depth: int = 2,
    width: int = WIDTH,
    gain: float = 1.0,
    placement: Placement = "before",
    activation: Callable[[], Activation] = ReLU,
    dropout: float = 0.0,
) -> Sequential:
    """Return a network of dense hidden layers. A seed gives the same initial weights with every normalizer.

    Parameters
    ----------
    pixels, classes : int
        Size of a sample and of the output.
    seed : int
    norm : callable or None
        ``norm(features)`` returns a normalizer of the hidden layers.
    depth, width : int
        Number of hidden layers and their units.
    gain : float
        Factor of the initial weights of hidden layers, relative to He's.
    placement : {"before", "after"}
        Place of the normalizer relative to the activation.
    activation : callable
    dropout : float
        Probability of dropout after each activation.
    """
    rng = np.random.default_rng(seed)

    def scaled(shape: tuple[int, int], rng: np.random.Generator, dtype: type) -> FloatArray:
        weights: FloatArray = he_normal(shape, rng, dtype)
        weights *= gain
        return weights

    layers: list[Module] = [Flatten()]
    for inputs in (pixels, *[width] * (depth - 1)):
        layers.append(Dense(inputs, width, init=scaled, rng=rng))  # type: ignore[arg-type]
        after: list[Module] = [activation()]
        if norm is not None:
            after.insert(0 if placement == "before" else 1, norm(width))
        if dropout:
            after.append(Dropout(dropout, rng=np.random.default_rng([seed, len(layers)])))
        layers += after
    return Sequential(*layers, Dense(width, classes, rng=rng))


def batch_norms(model: Module) -> Iterator[BatchNorm]:
    """Yield the batch normalization layers of a model."""
    for _, module in model.named_modules():
        if isinstance(module, BatchNorm):
            yield module
