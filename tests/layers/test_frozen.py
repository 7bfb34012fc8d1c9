"""Batch normalization with fixed statistics and parameters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from gradcheck import check_module

from syncbn import BatchNorm, FrozenBatchNorm, InstanceNorm, Module, SerialComm, SyncBatchNorm, WeightNorm
from syncbn.nn import SGD, Dense, ModuleList, ReLU, ResidualBlock, Sequential
from syncbn.train import Trainer


def trained(layer, rng):
    layer(rng.standard_normal((9, layer.num_features)) * 3 + 2)
    for parameter in layer.parameters():
        parameter.data[...] = rng.standard_normal(parameter.data.shape)
    return layer


def test_it_is_the_evaluation_of_batch_norm_in_both_modes(rng):
    layer = trained(BatchNorm(3, 1e-3, channel_axis=-1, dtype=np.float64), rng)
    frozen = FrozenBatchNorm.convert_frozen_batchnorm(layer)
    x, residual, dy = rng.standard_normal((3, 4, 5, 3))
    assert isinstance(frozen, FrozenBatchNorm)
    assert list(frozen.parameters()) == []
    layer.eval()
    for mode in (True, False):
        frozen.train(mode)
        before = {name: array.tobytes() for name, array in frozen.state_dict().items()}
        for options in ({}, {"relu": True}, {"residual": residual, "relu": True}):
            y, backward = frozen(x, **options)
            expected, expected_backward = layer(x, **options)
            np.testing.assert_array_equal(y, expected)
            found, wanted = backward(dy), expected_backward(dy)
            assert type(found) is type(wanted)
            np.testing.assert_array_equal(found, wanted)
        assert {name: array.tobytes() for name, array in frozen.state_dict().items()} == before
    assert not np.allclose(layer.train()(x)[0], frozen(x)[0])


def test_gradients_are_finite_differences_and_the_formula(rng):
    frozen = FrozenBatchNorm(4, dtype=np.float64)
    for name, array in frozen.named_buffers():
        array[...] = rng.random(4) + (name == "running_var")
    x = rng.standard_normal((6, 4, 3))
    check_module(frozen, x, rng)
    weight, bias, mean, var = (a[:, None] for _, a in frozen.named_buffers())
    np.testing.assert_allclose(frozen(x)[0], weight * (x - mean) / np.sqrt(var + 1e-5) + bias, rtol=1e-12)


def test_states_are_exchanged_with_batch_norm_and_pytorch(rng):
    layer = trained(BatchNorm(3), rng)
    frozen = Sequential(FrozenBatchNorm(3))
    assert list(frozen.state_dict()) == ["0.weight", "0.bias", "0.running_mean", "0.running_var"]
    state = Sequential(layer).state_dict()
    assert "0.num_batches_tracked" in state
    assert frozen.load_state_dict(state) == ([], [])
    for name, array in frozen.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    other = Sequential(BatchNorm(3))
    other.load_state_dict(frozen.state_dict())
    np.testing.assert_array_equal(other[0].running_var, layer.running_var)
    for wrong in ({**state, "1.num_batches_tracked": 3}, {**state, 5: 3}):
        with pytest.raises(ValueError, match="unexpected"):
            frozen.load_state_dict(wrong)


class Net(Module):
    """A network with layers in attributes, lists, tuples and dictionaries, one of them twice."""

    def __init__(self, rng):
        super().__init__()
        self.norm = trained(BatchNorm(3), rng)
        self.branches = {"a": [trained(SyncBatchNorm(3, comm=SerialComm()), rng)], "b": (self.norm, 7)}
        self.layers = ModuleList([ResidualBlock(3, 4, 2, BatchNorm), WeightNorm(Dense(2, 2)), InstanceNorm(3)])


def test_all_layers_of_a_network_are_replaced_in_place(rng):
    model = Net(rng)
    before, old = model.state_dict(), [type(module) for _, module in model.named_modules()]
    names = [name for name, _ in model.named_modules()]
    assert FrozenBatchNorm.convert_frozen_batchnorm(model.eval()) is model
    assert model.branches["b"] == (model.norm, 7)
    new = [type(module) for _, module in model.named_modules()]
    batch = (BatchNorm, SyncBatchNorm)
    assert [name for name, _ in model.named_modules()] == names
    assert new == [FrozenBatchNorm if kind in batch else kind for kind in old]
    assert new.count(FrozenBatchNorm) == 5
    assert not any(module.training for _, module in model.named_modules())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_layer_without_running_statistics_changes_nothing(rng):
    model = Sequential(trained(BatchNorm(3), rng), BatchNorm(3, track_running_stats=False))
    with pytest.raises(ValueError, match="layer '1' has no running statistics to freeze"):
        FrozenBatchNorm.convert_frozen_batchnorm(model)
    assert type(model[0]) is BatchNorm
    plain = FrozenBatchNorm.convert_frozen_batchnorm(BatchNorm(3, affine=False, dtype=np.float64))
    assert plain.weight.dtype == np.float64
    np.testing.assert_array_equal(plain.weight, 1)


def test_a_trainer_trains_the_rest(rng):
    x, y = rng.standard_normal((24, 6)).astype(np.float32), np.arange(24) % 3
    model = Sequential(Dense(6, 8, rng=rng), trained(BatchNorm(8), rng), ReLU(), Dense(8, 3, rng=rng))
    FrozenBatchNorm.convert_frozen_batchnorm(model)
    before = model.state_dict()
    Trainer(model, SGD(model.parameters(), 0.1), SerialComm(), batch_per_rank=8).fit(x, y, 2)
    changed = {name for name, array in model.state_dict().items() if not np.array_equal(array, before[name])}
    assert changed == {"0.weight", "0.bias", "3.weight", "3.bias"}


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: FrozenBatchNorm(0), "num_features must be at least 1, got 0"),
        (lambda: FrozenBatchNorm(3, -1.0), "eps must be finite and at least 0"),
        (lambda: FrozenBatchNorm(3, dtype=int), "dtype must be float16, float32 or float64"),
        (lambda: FrozenBatchNorm(3)(np.ones((4, 5))), "x must have 3 channels"),
    ],
)
def test_errors_state_what_was_passed_and_what_was_expected(call, text):
    with pytest.raises((ValueError, TypeError), match=text):
        call()


class Branches(NamedTuple):
    first: object
    others: tuple[object, ...]


def test_layers_in_nested_and_named_tuples_are_replaced(rng):
    class Branched(Module):
        def __init__(self):
            super().__init__()
            self.branches = Branches(trained(BatchNorm(3), rng), ((trained(BatchNorm(3), rng), "name"), 5))
            self.sizes = Branches(1, (2, 3))

    model = Branched()
    sizes = model.sizes
    FrozenBatchNorm.convert_frozen_batchnorm(model)
    assert type(model.branches) is Branches
    assert [type(module) for module in model.children()] == [FrozenBatchNorm] * 2
    assert model.branches.others[0][1] == "name"
    assert model.sizes is sizes
