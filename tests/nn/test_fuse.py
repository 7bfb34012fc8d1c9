"""Folding of batch normalization: the outputs of the network in evaluation, with fewer parameters."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from syncbn import (
    BatchNorm,
    BatchRenorm,
    FrozenBatchNorm,
    GhostBatchNorm,
    GroupNorm,
    Module,
    SerialComm,
    SyncBatchNorm,
    WeightNorm,
)
from syncbn.nn import Conv2d, Dense, Flatten, ReLU, ResidualBlock, Sequential, fuse, summary


def trained(model, x):
    """Give a network running statistics of other data, and weights that are not the initial ones."""
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data[...] += 0.3 * rng.standard_normal(parameter.data.shape)
    for _ in range(3):
        model(x * 3 + 1)
    return model


def batch_norms(model):
    return [name for name, module in model.named_modules() if isinstance(module, BatchNorm)]


def assert_fused(model, x, remaining=()):
    """Check the outputs of the fused network, what remains, and that the network has not changed."""
    trained(model, x)
    state, mode = model.state_dict(), model.training
    fused = fuse(model)
    assert batch_norms(fused) == list(remaining)
    assert model.training == mode
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    assert not any(module.training for _, module in fused.named_modules())
    with model.evaluating():
        y, _ = model(x)
    found, _ = fused(x)
    assert found.dtype == y.dtype
    tolerance = 1e-5 if x.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(found, y, rtol=0, atol=tolerance * np.abs(y).max())
    return fused


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((16, 6)).astype(np.float32)


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((4, 3, 8, 9)).astype(np.float32)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"affine": False}, {"weight": False}, {"bias": False}, {"channel_axis": -1}, {"eps": 0.5}, {"momentum": None}],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("after", [True, False])
def test_dense(x, bias, options, dtype, after):
    norm, dense = BatchNorm(6, dtype=dtype, **options), Dense(6, 6, bias, dtype=dtype)
    layers = [dense, norm] if after else [ReLU(), norm, dense]
    fused = assert_fused(Sequential(*layers), x.astype(dtype))
    assert fused[-1].weight.data.dtype == dtype
    assert len(list(fused.parameters())) == 2


@pytest.mark.parametrize("options", [{}, {"channel_axis": -3}])
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions(images, options, bias):
    assert_fused(Sequential(Conv2d(3, 5, 3, 2, 1, bias), BatchNorm(5, **options), ReLU()), images)
    assert_fused(Sequential(BatchNorm(3, **options), Conv2d(3, 5, 3, bias=bias)), images)


def test_a_convolution_with_padding_does_not_take_the_normalization_before_it(images):
    """At the border it sees zeros instead of β − s·μ."""
    assert_fused(Sequential(BatchNorm(3), Conv2d(3, 5, 3, padding=1)), images, ["0"])


def test_nested_networks(images):
    model = Sequential(ResidualBlock(3, 6, 2, BatchNorm), Sequential(Conv2d(6, 4, 1), BatchNorm(4)), Flatten())
    fused = assert_fused(model, images)
    assert len(list(model.parameters())) == 3 * 3 + 4
    assert len(list(fused.parameters())) == 3 * 2 + 2


def test_a_variance_that_is_not_finite_remains(x):
    """The layer's outputs are NaN then, but γ/√∞ would be 0."""
    model = trained(Sequential(Dense(6, 5), BatchNorm(5)), x).eval()
    model[1].running_var[2] = np.inf
    fused = fuse(model)
    assert [type(layer) for layer in fused] == [Dense, BatchNorm]
    np.testing.assert_array_equal(fused(x)[0], model(x)[0])
    assert np.isnan(fused(x)[0][:, 2]).all()


def test_a_synchronized_layer_shares_its_communicator(x):
    comm = SerialComm()
    model = Sequential(SyncBatchNorm(6, comm=comm), ReLU(), Dense(6, 5), SyncBatchNorm(5, comm=comm))
    fused = assert_fused(model, x, ["0"])
    assert fused[0].comm is comm


def test_a_frozen_layer(x):
    model = FrozenBatchNorm.convert_frozen_batchnorm(trained(Sequential(Dense(6, 6), BatchNorm(6)), x))
    fused = fuse(model)
    assert [type(layer) for layer in fused] == [Dense]
    np.testing.assert_allclose(fused(x)[0], model(x)[0], atol=1e-5)


class Doubled(Dense):
    def forward(self, x):
        y, backward = super().forward(x)
        return 2 * y, backward


class Two(Module):
    """Module that uses a layer of its network elsewhere."""

    def __init__(self):
        super().__init__()
        self.net = Sequential(Dense(6, 6), BatchNorm(6))
        self.first = self.net[0]

    def forward(self, x):
        return self.net(self.first(x)[0])


def test_what_remains(x):
    shared = BatchNorm(6)
    dense = Dense(6, 6)
    for layers in (
        [BatchNorm(6)],
        [Dense(6, 6), ReLU(), BatchNorm(6)],
        [Doubled(6, 6), BatchNorm(6)],
        [WeightNorm(Dense(6, 6)), BatchNorm(6)],
        [GroupNorm(2, 6), BatchNorm(6)],
    ):
        assert_fused(Sequential(*layers), x, [str(len(layers) - 1)])
    assert_fused(Sequential(dense, shared, ReLU(), Dense(6, 6), shared), x, ["1"])
    assert_fused(Sequential(dense, BatchNorm(6), dense), x, ["1"])
    assert_fused(Two(), x, ["net.1"])


@pytest.mark.parametrize("options", [{"track_running_stats": False}, {"eps": 0.0}])
def test_statistics_that_cannot_be_folded(options):
    """There are none, or a running variance is 0 without eps."""
    model = Sequential(Dense(6, 6), BatchNorm(6, **options))
    if model[1].running_var is not None:
        model[1].running_var[2] = 0
    fused = fuse(model)
    assert batch_norms(fused) == ["1"]


def test_two_normalizers_in_a_row(x):
    assert_fused(Sequential(Dense(6, 6), BatchNorm(6), BatchNorm(6)), x)


def test_the_parameters_of_the_tutorial_s_network():
    model = Sequential(Dense(784, 64), ReLU(), BatchNorm(64), Dense(64, 10))
    assert "Total params: 51,146\n" in summary(model, (784,))
    assert "Total params: 50,890\n" in summary(fuse(model), (784,))


def test_an_argument_that_is_no_network():
    with pytest.raises(TypeError, match=r"model must be a Module, got list"):
        fuse([Dense(2, 2)])


def test_a_sequential_with_its_own_forward_remains(x):
    class Skip(Sequential):
        def forward(self, x):
            y, backward = super().forward(x)
            return x + y, lambda dy: dy + backward(dy)

    assert_fused(Skip(Dense(6, 6), BatchNorm(6)), x, ["1"])


@pytest.mark.parametrize("layer", [partial(GhostBatchNorm, virtual_batch_size=4), BatchRenorm])
def test_layers_that_remain_share_their_communicator(layer):
    comm = SerialComm()
    model = Sequential(Dense(6, 6), layer(6, comm=comm))
    assert fuse(model)[1].comm is comm
