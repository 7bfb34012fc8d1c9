from __future__ import annotations

import numpy as np
import pytest
from gradcheck import check_function, check_module

from syncbn.layers.module import Module
from syncbn.layers.parameter import Parameter
from syncbn.nn import Dense


class Scale(Module):
    """Layer y = weight·x + bias whose backward can have one of several faults."""

    def __init__(self, size, fault=None):
        super().__init__()
        self.weight = Parameter(np.linspace(0.5, 1.5, size))
        self.bias = Parameter(np.zeros(size))
        self.fault = fault

    def forward(self, x):
        def backward(dy):
            self.weight.add_grad((dy * x).sum(axis=0) * (1.0001 if self.fault == "weight" else 1.0))
            if self.fault != "missing":
                self.bias.add_grad(dy.sum(axis=0) * (0.0 if self.fault == "bias" else 1.0))
            if self.fault == "x":
                return dy * self.weight.data[::-1]
            if self.fault == "mean":
                return dy.mean(axis=0) * self.weight.data + 0 * dy
            if self.fault == "writes":
                dy *= self.weight.data
                return dy
            return dy * self.weight.data

        return self.weight.data * x + self.bias.data, backward


def test_correct_backward_passes(rng):
    check_module(Scale(4), rng.standard_normal((5, 4)), rng)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("weight", "weight, direction"),
        ("bias", "bias, direction"),
        ("missing", "bias has no gradient"),
        ("x", "x, direction"),
        ("mean", "x, direction"),
        ("writes", "backward wrote into dy"),
    ],
)
def test_wrong_backward_fails(fault, message, rng):
    with pytest.raises(AssertionError, match=message):
        check_module(Scale(4, fault), rng.standard_normal((5, 4)), rng)


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_tiny_and_huge_gradients_need_the_same_relative_accuracy(size, rng):
    x = rng.standard_normal(6)
    check_function(lambda x: (size * np.sin(x), lambda dy: size * np.cos(x) * dy), x, rng=rng)
    for wrong in (0.0, 0.999, -1.0):
        with pytest.raises(AssertionError, match="direction"):
            check_function(
                lambda x, wrong=wrong: (size * np.sin(x), lambda dy: wrong * size * np.cos(x) * dy), x, rng=rng
            )


def test_arguments_that_cannot_be_checked(rng):
    with pytest.raises(ValueError, match="float32"):
        check_module(Dense(3, 2, rng=rng), rng.standard_normal((4, 3)), rng)
    with pytest.raises(ValueError, match="shape"):
        check_module(Dense(3, 2, rng=rng, dtype=np.float64), np.zeros((0, 3)), rng)


def test_absent_arguments_have_no_gradient(rng):
    x = rng.standard_normal(3)
    check_function(lambda x, _: (2 * x, lambda dy: (2 * dy, None)), x, None, rng=rng)
    with pytest.raises(AssertionError, match="is None"):
        check_function(lambda x, _: (2 * x, lambda dy: (2 * dy, dy)), x, None, rng=rng)


def test_state_is_restored(rng):
    layer = Dense(3, 2, rng=rng, dtype=np.float64)
    before = layer.state_dict()
    check_module(layer, rng.standard_normal((4, 3)), rng)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
