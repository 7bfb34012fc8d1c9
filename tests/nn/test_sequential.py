from __future__ import annotations

import numpy as np
import pytest
from gradcheck import check_module

from syncbn.nn import Dense, ReLU, Sequential


@pytest.fixture
def model(rng):
    return Sequential(Dense(4, 6, rng=rng, dtype=np.float64), ReLU(), Dense(6, 3, rng=rng, dtype=np.float64))


def test_gradients(model, rng):
    check_module(model, rng.standard_normal((5, 4)), rng)
    check_module(Sequential(model, Sequential()), rng.standard_normal((5, 4)), rng)


def test_is_the_composition(model, rng):
    x = rng.standard_normal((5, 4))
    hidden = np.maximum(x @ model[0].weight.data.T, 0)
    np.testing.assert_allclose(model(x)[0], hidden @ model[2].weight.data.T, rtol=1e-12)


def test_names_are_positions(model):
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert [name for name, _ in Sequential(model, ReLU()).named_modules()] == ["", "0", "0.0", "0.1", "0.2", "1"]


def test_behaves_as_a_sequence(model):
    assert len(model) == 3
    assert list(model) == [model[0], model[1], model[2]]
    assert model[-1] is model[2]
    assert isinstance(model[1:], Sequential)
    assert list(model[1:]) == [model[1], model[2]]
    with pytest.raises(IndexError):
        model[3]


def test_a_layer_can_be_replaced(model, rng):
    replacement = Dense(6, 2, rng=rng, dtype=np.float64)
    model[2] = replacement
    assert model[2] is replacement
    assert model(rng.standard_normal((5, 4)))[0].shape == (5, 2)
    with pytest.raises(TypeError, match="expects a Module at position 2, got 'ReLU'"):
        model[2] = "ReLU"


def test_layers_can_be_deleted(model):
    first, last = model[0], model[2]
    del model[1]
    assert list(model) == [first, last]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    del model[1:]
    assert list(model) == [first]


def test_modes_apply_to_all_layers(model):
    nested = Sequential(model)
    nested.eval()
    assert not any(module.training for _, module in nested.named_modules())
    nested.train()
    assert all(module.training for _, module in nested.named_modules())


def test_state_can_be_loaded_by_another_model(model, rng):
    other = Sequential(Dense(4, 6, dtype=np.float64), ReLU(), Dense(6, 3, dtype=np.float64))
    x = rng.standard_normal((5, 4))
    assert not np.array_equal(model(x)[0], other(x)[0])
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(model(x)[0], other(x)[0])


def test_layers_must_be_modules():
    with pytest.raises(TypeError, match="expects a Module at position 1, got class"):
        Sequential(ReLU(), ReLU)
