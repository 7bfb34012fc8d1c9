"""Errors say which layer refused, and what to do instead."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import BatchNorm
from syncbn import functional as F
from syncbn.layers import Module
from syncbn.nn import SGD, Adam, Dense, Flatten, ReLU, Sequential


def test_the_layer_of_a_sequential_is_named():
    model = Sequential(Flatten(), Sequential(Dense(4, 3), ReLU(), Dense(2, 2)))
    with pytest.raises(
        ValueError, match=r"^layer 1 \(Sequential\): layer 2 \(Dense\): Dense expects x of shape \(N, 2\)"
    ):
        model(np.ones((2, 2, 2)))
    with pytest.raises(TypeError, match=r"^layer 0 \(Flatten\): Flatten expects float32"):
        model(np.ones((2, 2, 2), int))


def test_channels_on_the_last_axis():
    with pytest.raises(
        ValueError, match=r"x must have 3 channels on axis 1, .*pass channel_axis=-1, to a layer in its constr"
    ):
        BatchNorm(3)(np.ones((2, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"got shape \(2, 4, 4, 5\)$"):
        BatchNorm(3)(np.ones((2, 4, 4, 5)))


def test_a_last_batch_of_one_sample():
    with pytest.raises(ValueError, match="drop_last=True"):
        BatchNorm(3)(np.ones((1, 3)))


@pytest.mark.parametrize("model", [Dense(2, 2), Sequential(Dense(2, 2))])
@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_a_model_instead_of_its_parameters(optimizer, model):
    with pytest.raises(TypeError, match=r"pass model\.parameters\(\)"):
        optimizer(model, 0.1)


@pytest.mark.parametrize("call", [F.batch_norm, BatchNorm(2), Dense(2, 2), Flatten()])
def test_a_tensor_instead_of_an_array(call):
    tensor = type("Tensor", (), {"__module__": "torch"})()
    with pytest.raises(TypeError, match=r"got Tensor of PyTorch: call its \.detach\(\)\.numpy\(\)"):
        call(tensor)


@pytest.mark.parametrize("owner", [Dense(4, 3), SGD(Dense(4, 3).parameters(), 0.1)])
@pytest.mark.parametrize(
    ("state", "text"),
    [("run.npz", r"got 'run\.npz': pass its contents, numpy\.load\(path\)"), (None, "got None$"), ([1], "got list")],
)
def test_a_state_that_is_not_a_mapping(owner, state, text):
    with pytest.raises(TypeError, match=f"a state_dict must be a mapping of names to arrays, {text}"):
        owner.load_state_dict(state)


@pytest.mark.parametrize("weights", ["run.h5", {"gamma": 1}, BatchNorm(3)])
def test_weights_of_keras_that_are_not_a_list(weights):
    with pytest.raises(TypeError, match=rf"keras_layer\.get_weights\(\) returns, got {type(weights).__name__} "):
        BatchNorm(3).load_keras_weights(weights)


class Returns(Module):
    """A layer whose forward returns ``change(y, backward)``."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(x, lambda dy: dy)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda y, _: y, r"ndarray of shape \(2, 3\)"),
        (lambda y, _: (y, None), r"\(ndarray of shape \(2, 3\), None\)"),
        (lambda y, backward: (y, y, backward), r"\(ndarray .*, ndarray .*, function <lambda>\)"),
        (lambda *_: None, "None"),
    ],
)
def test_a_forward_that_does_not_return_a_pair(change, shown):
    text = rf"^layer 1 \(Returns\): Returns\.forward must return \(y, backward\), where .*, got {shown} \(docs"
    with pytest.raises(TypeError, match=text):
        Sequential(ReLU(), Returns(change))(np.ones((2, 3), np.float32))
