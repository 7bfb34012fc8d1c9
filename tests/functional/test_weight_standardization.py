"""Weight standardization, as a function and as a wrapper of layers."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from gradcheck import check_function, check_module

from syncbn import WeightNorm, WeightStandardization
from syncbn import functional as F
from syncbn.nn import SGD, Conv2d, Dense, Sequential

TOLERANCE = {"float16": 1e-3, "float32": 4e-7, "float64": 1e-13}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_formula(dtype, axis, rng):
    v, dw = (rng.standard_normal((2, 4, 3, 2, 5)) + 3).astype(dtype)
    others = tuple(i for i in range(4) if i != axis % 4)
    ones = np.ones(1)
    expected = oracle.normalize(v, dw, others, ones, 0 * ones, 1e-5)
    for values in (v, np.asfortranarray(v), v[::-1, :, ::-1].copy()[::-1, :, ::-1]):
        w, backward = F.weight_standardization(values, axis=axis)
        dv = backward(dw)
        assert w.dtype == dv.dtype == v.dtype
        assert w.flags.c_contiguous
        oracle.assert_close(w, expected.y, TOLERANCE[dtype], "w")
        oracle.assert_close(
            dv, expected.dx, 20 * TOLERANCE[dtype], "dv", scale=np.abs(dw).max() / np.sqrt(expected.var.min())
        )
    np.testing.assert_allclose(w.astype(float).mean(axis=others), 0, atol=2e-3)


def test_gradients_are_finite_differences(rng):
    v = rng.standard_normal((4, 3, 2, 2)) + 2
    for axis in (0, 1, -1):
        check_function(lambda v, axis=axis: F.weight_standardization(v, axis=axis, eps=1e-3), v, rng=rng)
    check_module(WeightStandardization(Dense(3, 5, dtype=np.float64)), rng.standard_normal((6, 3)), rng)
    layer = WeightStandardization(Conv2d(2, 3, 3, padding=1, bias=False, dtype=np.float64), eps=1e-2)
    check_module(layer, rng.standard_normal((2, 2, 4, 4)), rng)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_a_layer_does_not_depend_on_the_scale_and_the_mean_of_its_weights(scale, rng):
    dense, x = Dense(50, 5, bias=False, dtype=np.float64), rng.standard_normal((3, 50))
    before = dense.weight.data.copy()
    expected = x @ ((before - before.mean(1, keepdims=True)) / before.std(1, keepdims=True)).T
    dense.weight.data[...] = scale * before + 7
    np.testing.assert_allclose(WeightStandardization(dense, eps=0.0)(x)[0], expected, rtol=1e-8, atol=1e-8)
    assert not np.allclose(dense(x)[0], x @ before.T)


def test_states_are_those_of_the_layer_and_an_optimizer_trains_v(rng):
    inner = Conv2d(2, 3, 3, bias=False, rng=rng)
    state = {name: array.copy() for name, array in inner.state_dict().items()}
    model = Sequential(WeightStandardization(inner))
    assert {name: array.tolist() for name, array in model.state_dict().items()} == {
        f"0.{name}": array.tolist() for name, array in state.items()
    }
    y, backward = model(rng.standard_normal((2, 2, 4, 4)).astype(np.float32))
    backward(y)
    SGD(model.parameters(), 0.1).step()
    assert not np.array_equal(model.state_dict()["0.weight"], state["weight"])
    with pytest.raises(RuntimeError, match="have changed since the forward"):
        backward(y)
    other = Conv2d(2, 3, 3, bias=False)
    other.load_state_dict({name.removeprefix("0."): array for name, array in model.state_dict().items()})
    assert repr(model[0]).startswith("WeightStandardization(\n  name='weight', axis=0, eps=1e-05")
    both = WeightStandardization(WeightNorm(Dense(3, 2)), "v")
    assert sorted(both.state_dict()) == ["bias", "weight_g", "weight_v"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: F.weight_standardization(np.ones((4, 1))),
            r"more than 1 value for each index of axis 0, got shape \(4, 1\)",
        ),
        (lambda: F.weight_standardization(np.ones(4)), "v must have 2 or more axes"),
        (lambda: F.weight_standardization(np.ones((4, 2)), axis=2), "axis must be in"),
        (lambda: F.weight_standardization(np.ones((4, 2)), eps=-1.0), "eps must be finite"),
        (lambda: F.weight_standardization(np.ones((4, 2)))[1](np.ones((2, 4))), "dw must have"),
        (lambda: F.weight_standardization([[1.0]]), "v must be a NumPy array"),
        (lambda: WeightStandardization(Dense(1, 3)), "more than 1 value for each index of axis 0"),
        (lambda: WeightStandardization(Dense(2, 3), "kernel"), "Dense has no parameter 'kernel'"),
        (lambda: WeightStandardization(Dense(2, 3), axis=2), "axis must be in"),
    ],
)
def test_errors_state_what_was_passed_and_what_was_expected(call, text):
    with pytest.raises((ValueError, TypeError), match=text):
        call()
