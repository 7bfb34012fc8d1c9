"""Error texts say what to do, and name an entry of the page "Pitfalls"."""

from __future__ import annotations

import re

import numpy as np
import pytest
from mistakes import MISTAKES, WITHOUT_ENTRY, WithoutGradient, X, backward_of

from syncbn import BatchNorm
from syncbn.layers import Parameter
from syncbn.nn import Dense, Dropout, ReLU, ResidualBlock, Sequential
from syncbn.pitfalls import see
from syncbn.train import CheckpointError


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_names_the_way_out(kind):
    if kind == "communicator of a string":
        pytest.importorskip("mpi4py")
    call, advice, entry = MISTAKES[kind]
    with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
        call()
    assert re.search(advice, str(caught.value)), caught.value
    assert str(caught.value).endswith(see(entry))


@pytest.mark.parametrize(("call", "text"), WITHOUT_ENTRY)
def test_a_mistake_that_needs_no_entry(call, text):
    with pytest.raises((TypeError, ValueError, AttributeError), match=text):
        call()


def test_objects_of_users_may_have_any_attributes():
    class Own(BatchNorm):
        pass

    own, layer, model = Own(4), Dense(4, 3), Sequential(ReLU())
    own.momentun = own.gamma = own.trainig = 3
    layer.name, layer.weight_g = "first", Parameter(X[0])
    model.block10, model.block11, model.save = ReLU(), Sequential(), print
    assert [*dict(model.named_children())] == ["0", "block10", "block11"]


def test_the_first_layer_may_have_no_gradient():
    assert backward_of(WithoutGradient(), ReLU()) is None


def test_an_array_times_a_parameter_is_an_array():
    weight = Dense(4, 3).weight
    np.testing.assert_array_equal(np.ones((3, 4), np.float32) * weight, weight.data)
    np.testing.assert_array_equal(np.multiply(weight, 2), weight.data * 2)
    assert bool(weight)


@pytest.mark.parametrize(
    "layer", [lambda rng: Dense(4, 3, rng=rng), lambda rng: ResidualBlock(1, 2, rng=rng), lambda rng: Dropout(rng=rng)]
)
def test_a_seed_is_a_generator_with_it(layer):
    made, same, other = ([*each.parameters(), *each.buffers()] for each in map(layer, (1, np.random.default_rng(1), 2)))
    assert all(map(np.array_equal, made, same))
    assert not all(map(np.array_equal, made, other))


def test_an_error_of_a_backward_names_the_layer():
    backward = Sequential(Dense(4, 3), Sequential(ReLU(), BatchNorm(3)))(X)[1]
    with pytest.raises(ValueError, match=r"^layer 1 \(Sequential\): layer 1 \(BatchNorm\): dy must have y's shape"):
        backward(X)


def test_an_error_about_another_checkpoint_error_names_the_entry_once():
    error = CheckpointError(f"run.npz: {CheckpointError('damaged')}")
    assert str(error) == f"run.npz: damaged{see('checkpoints')}"
