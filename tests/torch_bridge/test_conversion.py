"""Conversion of models to synchronized batch normalization, and back."""

from __future__ import annotations

import copy

import pytest

from torch_bridge.cases import random_parameters, same_bits, tensor, torch

# isort: split
from syncbn import SerialComm
from syncbn.torch import BatchNorm, SyncBatchNorm, convert_sync_batchnorm, revert_sync_batchnorm

nn = torch.nn


class BatchNormAct2d(nn.BatchNorm2d):
    """Batch normalization and activation in one layer, as in timm."""

    def __init__(self, num_features):
        super().__init__(num_features)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(super().forward(x))


class Momentum(nn.BatchNorm2d):
    """A class with other defaults only, as in many models for segmentation."""

    def __init__(self, num_features):
        super().__init__(num_features, eps=1e-3, momentum=0.01)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleDict({"a": Momentum(4), "b": nn.SyncBatchNorm(4)})
        self.shared = self.stem[1]
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2))

    def forward(self, x):
        return self.head(self.shared(self.blocks["a"](self.stem(x))))


def test_all_layers_of_a_model_are_converted_and_give_its_results(rng):
    model = random_parameters(Model(), rng)
    reference, state = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    assert convert_sync_batchnorm(model) is model
    found = [name for name, layer in model.named_modules() if isinstance(layer, SyncBatchNorm)]
    assert found == ["stem.1", "blocks.a", "blocks.b", "head.2"]
    assert model.shared is model.stem[1]
    assert (model.blocks["a"].eps, model.blocks["a"].momentum) == (1e-3, 0.01)
    assert list(model.state_dict()) == list(state)
    x = tensor(rng, (4, 3, 8, 8), torch.float32)
    torch.testing.assert_close(model(x), reference(x))
    torch.testing.assert_close(dict(model.state_dict()), dict(reference.state_dict()))


def test_the_classes_come_back(rng):
    model = Model()
    kinds = [type(layer) for layer in model.modules()]
    revert_sync_batchnorm(convert_sync_batchnorm(convert_sync_batchnorm(model)))
    expected = [BatchNorm if kind is nn.SyncBatchNorm else kind for kind in kinds]
    assert [type(layer) for layer in model.modules()] == expected
    assert model.shared is model.stem[1]
    plain = random_parameters(nn.BatchNorm2d(3), rng)
    layer = revert_sync_batchnorm(SyncBatchNorm.convert_sync_batchnorm(plain))
    assert vars(layer).keys() == vars(plain).keys()
    x = tensor(rng, (4, 3, 2, 2), torch.float32)
    same_bits(layer(x), plain(x))


def test_a_lone_layer_is_not_changed_itself():
    layer = nn.BatchNorm2d(3)
    converted = convert_sync_batchnorm(layer)
    assert type(layer) is nn.BatchNorm2d
    assert type(converted) is SyncBatchNorm
    assert converted.weight is layer.weight
    assert converted.running_mean is layer.running_mean
    converted.weight = nn.Parameter(torch.zeros(3))
    assert layer.weight is not converted.weight


@pytest.mark.parametrize("there_and_back", [False, True])
def test_modes_hooks_and_attributes_are_kept(there_and_back):
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3, affine=False, track_running_stats=False))
    model.eval()
    model[0].train()
    model[0].bias.requires_grad_(False)
    model[0].note = "kept"
    calls = []
    handle = model[0].register_forward_hook(lambda layer, *_: calls.append(type(layer)))
    parameters = list(model.parameters())
    convert_sync_batchnorm(model)
    if there_and_back:
        revert_sync_batchnorm(model)
    kind = nn.BatchNorm1d if there_and_back else SyncBatchNorm
    assert [type(layer) for layer in model] == [kind, kind]
    assert [layer.training for layer in model] == [True, False]
    assert all(one is other for one, other in zip(parameters, model.parameters(), strict=True))
    assert [p.requires_grad for p in model.parameters()] == [True, False]
    assert model[0].note == "kept"
    model(torch.randn(4, 3))
    handle.remove()
    model(torch.randn(4, 3))
    assert calls == [kind]


def test_layers_that_do_more_are_left_alone_with_a_warning():
    parametrized = nn.utils.parametrizations.weight_norm(nn.BatchNorm1d(3).double(), dim=None)
    layers = [BatchNormAct2d(3), nn.LazyBatchNorm2d(), parametrized, nn.InstanceNorm2d(3), nn.GroupNorm(1, 3)]
    model = nn.Sequential(*layers, nn.BatchNorm2d(3))
    with (
        pytest.warns(UserWarning, match="BatchNormAct2d, ParametrizedBatchNorm1d keep local .* add to batch norm"),
        pytest.warns(UserWarning, match="classes LazyBatchNorm2d keep local .* again after its first batch"),
    ):
        convert_sync_batchnorm(model)
    assert list(model)[:-1] == layers
    assert type(model[-1]) is SyncBatchNorm
    x = torch.randn(2, 3, 4, 4)
    assert model[0](x).min() >= 0


def test_layers_inside_of_layers_that_are_left_alone_are_converted():
    layer = BatchNormAct2d(3)
    layer.act = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3))
    with pytest.warns(UserWarning, match="BatchNormAct2d"):
        convert_sync_batchnorm(layer)
    assert type(layer.act[1]) is SyncBatchNorm


def test_layers_of_a_subclass_and_of_a_communicator():
    class Own(SyncBatchNorm):
        pass

    assert type(Own.convert_sync_batchnorm(nn.BatchNorm2d(3))) is Own
    comm = SerialComm()
    model = convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(3), SyncBatchNorm(3)), comm=comm)
    assert all(layer.comm is comm for layer in model)


def test_copies_of_a_converted_model_train():
    model = convert_sync_batchnorm(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), comm=SerialComm())
    clone = copy.deepcopy(model)
    assert clone[1].comm is model[1].comm
    clone(torch.randn(4, 3)).square().sum().backward()
    assert model[1].weight.grad is None
    assert clone[1].weight.grad is not None


@pytest.mark.parametrize("function", [convert_sync_batchnorm, revert_sync_batchnorm])
def test_what_is_not_a_module_is_an_error(function):
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module, got dict"):
        function({})


def test_a_communicator_and_a_process_group_are_too_many():
    with pytest.raises(ValueError, match="either comm or process_group"):
        convert_sync_batchnorm(nn.BatchNorm2d(3), process_group=object(), comm=SerialComm())
    with pytest.raises(TypeError, match="communicator"):
        convert_sync_batchnorm(nn.BatchNorm2d(3), comm="world")
