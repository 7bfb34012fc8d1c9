"""Networks with every normalizer that they support."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn.comm import SerialComm
from syncbn.experiments.networks import build_network
from syncbn.experiments.normalizers import NORMALIZERS, Network
from syncbn.layers import (
    BatchNorm,
    BatchRenorm,
    GhostBatchNorm,
    GroupNorm,
    LayerNorm,
    SyncBatchNorm,
    WeightNorm,
    WeightStandardization,
)
from syncbn.nn import Conv2d, Dense

SHAPES: dict[Network, tuple[int, int, int]] = {"mlp": (1, 28, 28), "resnet": (1, 7, 7)}
SUPPORTED = [(network, norm) for norm, entry in NORMALIZERS.items() for network in entry.networks]


def build(network: Network, norm: str, seed: int = 0):
    return build_network(network, norm, seed, image_shape=SHAPES[network], classes=10, comm=SerialComm())


@pytest.mark.parametrize(("network", "norm"), SUPPORTED)
def test_every_normalizer_trains_a_step(network: Network, norm: str, rng: np.random.Generator) -> None:
    model = build(network, norm)
    x = rng.normal(size=(4, *SHAPES[network])).astype(np.float32)
    y, backward = model(x)
    assert y.shape == (4, 10)
    dx = backward(rng.normal(size=y.shape).astype(np.float32))
    assert dx.shape == x.shape
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert np.all(np.isfinite(parameter.grad)), name


@pytest.mark.parametrize("network", ["mlp", "resnet"])
def test_one_seed_draws_the_same_weights_for_every_normalizer(network: Network) -> None:
    def weights(norm: str, seed: int) -> list[np.ndarray]:
        # Parameters of normalizers have one axis; WN stores the weight as its direction v.
        arrays = [p.data for name, p in build(network, norm, seed).named_parameters() if not name.endswith("_g")]
        return [array for array in arrays if array.ndim > 1]

    expected = weights("none", 0)
    for norm, entry in NORMALIZERS.items():
        if network in entry.networks:
            assert all(map(np.array_equal, weights(norm, 0), expected)), norm
    assert not np.array_equal(weights("none", 1)[0], expected[0])


def count(model, kind: type) -> int:
    return sum(isinstance(module, kind) for _, module in model.named_modules())


@pytest.mark.parametrize(
    ("norm", "kind", "in_mlp", "in_resnet"),
    [
        ("bn", BatchNorm, 2, 13),  # the stem, two in each of five blocks, two shortcuts
        ("syncbn", SyncBatchNorm, 2, 13),
        ("brn", BatchRenorm, 2, 13),
        ("ghost", GhostBatchNorm, 2, 13),
        ("gn", GroupNorm, 2, 13),
        ("wn", WeightNorm, 2, 13),
        ("ws", WeightStandardization, 2, 13),
        ("ws", GroupNorm, 2, 13),
        ("ln", LayerNorm, 2, 0),
    ],
)
def test_number_of_normalizers(norm: str, kind: type, in_mlp: int, in_resnet: int) -> None:
    assert count(build("mlp", norm), kind) == in_mlp
    assert count(build("resnet", norm), kind) == in_resnet


def test_layers() -> None:
    mlp = build("mlp", "none")
    assert [
        (layer.in_features, layer.out_features) for _, layer in mlp.named_modules() if isinstance(layer, Dense)
    ] == [
        (784, 64),
        (64, 64),
        (64, 10),
    ]
    assert count(build("resnet", "none"), Conv2d) == 13
