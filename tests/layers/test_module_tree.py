"""Modules and parameters wherever a module keeps them, those that are used twice, and modes."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import pytest

from syncbn import BatchNorm, FrozenBatchNorm, GroupNorm, LayerNorm, Module, Parameter, WeightNorm
from syncbn.nn import SGD, Dense, ModuleList, ReLU, Sequential


class Holder(Module):
    """A module with these attributes."""

    def __init__(self, **attributes: object) -> None:
        super().__init__()
        vars(self).update(attributes)


CONTAINERS = {
    "list": lambda a, b: [a, b],
    "tuple": lambda a, b: (a, b),
    "ModuleList": lambda a, b: ModuleList([a, b]),
    "dict": lambda a, b: {"0": a, "1": b},
    "dict of numbers": lambda a, b: {0: a, 1: b},
    "nested": lambda a, b: {"0": a, "other": [None, 3.0, "text"], "1": b},
}


@pytest.mark.parametrize("base", [Sequential, ModuleList])
def test_attributes_of_a_list_of_layers_are_found(base):
    class Network(base):
        def __init__(self) -> None:
            super().__init__(*([ReLU()] if base is Sequential else [[ReLU()]]))
            self.norm = BatchNorm(2)
            self.heads = [BatchNorm(3)]

    model = Network()
    assert [name for name, _ in model.named_children()] == ["0", "norm", "heads.0"]
    assert "norm.running_mean" in model.state_dict()
    assert not model.eval().norm.training
    assert "(norm): BatchNorm(2" in repr(model)


def test_a_constructor_that_does_not_call_that_of_module():
    class Network(Module):
        def __init__(self) -> None:
            self.layer = ReLU()

        def forward(self, x):
            return self.layer(x)

    for use in (lambda model: model(np.ones(2)), lambda model: model.training, lambda model: model.state_dict()):
        with pytest.raises(AttributeError, match=r"call super\(\)\.__init__\(\) first in the __init__ of Network"):
            use(Network())


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_modules_in_containers_are_found(container):
    layers = BatchNorm(2), BatchNorm(3)
    model = Holder(layers=container(*layers))
    assert [name for name, _ in model.named_children()][-1] in ("layers.1", "layers")
    assert [name for name, _ in model.named_parameters()] == [
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
    ]
    assert sum(isinstance(module, BatchNorm) for _, module in model.named_modules()) == 2
    assert len(list(model.named_buffers())) == 6
    assert len(model.state_dict()) == 10
    model.eval()
    assert not any(layer.training for layer in layers)
    state = {name: value + 1 for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    assert layers[1].running_mean[0] == 1


def test_modules_that_are_appended_later_are_found():
    model = Holder(layers=[])
    assert list(model.parameters()) == []
    model.layers.append([Dense(2, 3)])
    assert [name for name, _ in model.named_parameters()] == ["layers.0.0.weight", "layers.0.0.bias"]


def test_parameters_in_containers_are_found():
    scales = [Parameter(np.ones(2)), Parameter(np.ones(3))]
    model = Holder(scales=scales, named={"a": Parameter(np.ones(1))})
    assert list(model.state_dict()) == ["scales.0", "scales.1", "named.a"]
    assert list(model.parameters())[:2] == scales


@pytest.mark.parametrize("member", [BatchNorm(2), Parameter(np.ones(2))])
def test_a_set_is_refused(member):
    with pytest.raises(TypeError, match=r"things is a set of .*: use a list"):
        list(Holder(things={member}).parameters())
    assert list(Holder(things={1, 2}).parameters()) == []


def test_what_is_used_twice_is_listed_once_and_saved_under_both_names():
    """As in PyTorch."""
    norm = BatchNorm(3)
    model = Sequential(norm, ReLU(), Sequential(norm), WeightNorm(tied := Dense(3, 3)))
    assert [name for name, _ in model.named_modules()] == ["", "0", "1", "2", "3", "3.module"]
    assert [name for name, _ in model.named_parameters()] == [
        "0.weight",
        "0.bias",
        "3.weight_g",
        "3.weight_v",
        "3.bias",
    ]
    assert len(list(model.named_buffers())) == 3
    assert set(model.state_dict()) >= {"0.weight", "2.0.weight", "0.running_var", "2.0.running_var"}
    SGD(model.parameters(), 0.1)
    model.load_state_dict(model.state_dict())
    shared = Holder(first=tied, second=Holder(bias=tied.bias))
    assert [name for name, _ in shared.named_parameters()] == ["first.weight", "first.bias"]


def test_train_asks_each_child():
    class Frozen(BatchNorm):
        def train(self, mode=True):  # noqa: ARG002 (always in evaluation)
            return super().train(False)

    frozen, trained = Frozen(2), BatchNorm(2)
    for model in (Sequential(Sequential(frozen), trained), Holder(layers=[frozen, {"x": trained}])):
        model.train()
        assert (frozen.training, trained.training) == (False, True)
        frozen.training = True
        with model.evaluating():
            assert (frozen.training, trained.training) == (False, False)
        assert (frozen.training, trained.training) == (True, True)


def test_module_list(rng):
    layers = ModuleList([Dense(2, 2)]).append(LayerNorm(2))
    layers.append(ReLU())
    assert len(layers) == 3
    assert [type(layer).__name__ for layer in layers] == ["Dense", "LayerNorm", "ReLU"]
    assert list(layers.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert layers[-1] is list(layers)[2]
    assert isinstance(layers[1:], ModuleList)
    assert layers[1:][0] is layers[1]
    layers[0] = replacement = ReLU()
    assert layers[0] is replacement
    for wrong in (lambda: ModuleList([3]), lambda: layers.append(None), lambda: layers.__setitem__(0, len)):
        with pytest.raises(TypeError, match="ModuleList expects a Module at position"):
            wrong()
    with pytest.raises(NotImplementedError, match="ModuleList has no forward"):
        layers(rng.standard_normal((2, 2)))


def test_other_attributes_are_ignored():
    assert not list(Holder(a=3, b=[1, (2, None)], c={"k": "v"}, d=SimpleNamespace()).parameters())


def test_modules_children_and_buffers_are_those_that_have_names():
    shared = BatchNorm(3)
    model = Sequential(shared, Sequential(Dense(3, 3), shared), shared)
    assert list(model.modules()) == [module for _, module in model.named_modules()]
    assert list(model.children()) == [shared, model[1]]
    assert [id(buffer) for buffer in model.buffers()] == [id(buffer) for _, buffer in model.named_buffers()]
    assert len(list(model.buffers())) == 3


def test_apply_calls_a_function_for_each_module_from_the_inside_outwards():
    model = Sequential(Dense(3, 3), Sequential(BatchNorm(3)))
    called = []
    assert model.apply(called.append) is model
    assert called == [model[0], model[1][0], model[1], model]


def test_parameters_is_an_iterator():
    """As in PyTorch: ``next(model.parameters()).dtype``."""
    layer = Dense(2, 3)
    assert next(layer.parameters()) is layer.weight
    assert list(layer.parameters()) == [layer.weight, layer.bias]


@pytest.mark.parametrize("build", [BatchNorm, FrozenBatchNorm, lambda n: WeightNorm(Dense(n, n))])
def test_to_converts_parameters_gradients_and_floating_buffers(build, rng):
    model = Sequential(build(3), BatchNorm(3))
    x = rng.standard_normal((4, 3)).astype(np.float32)
    y, backward = model(x)
    backward(y)
    arrays = model.state_dict()
    assert model.to(np.float64) is model
    for name, array in model.state_dict().items():
        assert array.dtype == (np.int64 if name.endswith("num_batches_tracked") else np.float64)
        np.testing.assert_array_equal(array, arrays[name])
    assert all(parameter.grad.dtype == np.float64 for parameter in model.parameters())
    model(x.astype(np.float64))[1](y)
    assert all(parameter.grad.dtype == np.float64 for parameter in model.parameters())
    assert model.to(np.float16).state_dict()["1.weight"].dtype == np.float16
    with pytest.raises(TypeError, match="dtype must be float16, float32 or float64, got int32"):
        model.to(np.int32)


def test_to_between_forward_and_backward_is_detected(rng):
    layer = BatchNorm(3)
    y, backward = layer(rng.standard_normal((4, 3)))
    layer.to(np.float64)
    with pytest.raises(RuntimeError, match="have changed since the forward"):
        backward(y)


@pytest.mark.parametrize("layer", [BatchNorm(3), GroupNorm(1, 3), Dense(3, 3), ReLU(), Sequential(BatchNorm(3))])
def test_a_backward_has_a_signature_and_a_docstring(layer):
    _, backward = layer(np.ones((2, 3), np.float32))
    assert list(inspect.signature(backward).parameters) == ["dy"]
    assert backward.__doc__.startswith("Return dL/dx, given dL/dy")


def test_the_error_of_a_property_is_not_hidden():
    class Misspelt(Module):
        @property
        def scale(self):
            return self.wieght

    with pytest.raises(AttributeError, match="'wieght'"):
        _ = Misspelt().scale
