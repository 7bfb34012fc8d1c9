"""Filter response normalization with the thresholded linear unit."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from gradcheck import check_function, check_module
from hypothesis import given
from hypothesis import strategies as st

from syncbn import FilterResponseNorm, GroupNorm
from syncbn import functional as F

TOLERANCE = {"float16": 1e-3, "float32": 4e-7, "float64": 1e-14}


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(2, 3, 5, 4), (3, 4, 7), (5, 3)]),
    st.sampled_from(list(TOLERANCE)),
    st.booleans(),
    st.booleans(),
)
def test_the_formula_in_both_memory_orders(seed, shape, dtype, tlu, last):
    rng = np.random.default_rng(seed)
    x, dy = (rng.standard_normal((2, *shape)) + 0.5).astype(dtype)
    weight, bias, tau = (rng.standard_normal((3, shape[1])) / 2).astype(dtype)
    axes = tuple(range(2, x.ndim))
    to_c = (1, -1, *(1 for _ in axes))
    wide, g, gamma, beta, t = (np.asarray(a, np.longdouble) for a in (x, dy, weight, bias, tau))
    gamma, beta, t = (a.reshape(to_c) for a in (gamma, beta, t))
    root = np.sqrt((wide**2).mean(axis=axes, keepdims=True) + np.longdouble(1e-6))
    linear = gamma * wide / root + beta
    above = linear > t if tlu else np.ones(shape, bool)
    if last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    y, backward = F.filter_response_norm(x, weight, bias, tau if tlu else None)
    dx, dweight, dbias, dtau = backward(dy)
    through = np.where(above, g, 0)
    scaled = through * gamma
    expected_dx = scaled / root - wide * (scaled * wide).mean(axis=axes, keepdims=True) / root**3
    tolerance, size = TOLERANCE[dtype], float(np.abs(scaled / root).max())
    kept = (0, *axes)
    assert y.strides == dx.strides == x.strides
    assert y.dtype == dx.dtype == dweight.dtype == dbias.dtype == np.dtype(dtype)
    oracle.assert_close(y, np.where(above, linear, t if tlu else linear), tolerance, "y")
    oracle.assert_close(dx, expected_dx, 10 * tolerance, "dx", scale=size)
    oracle.assert_close(dweight, (through * wide / root).sum(kept), 10 * tolerance, "dweight", scale=x.size)
    oracle.assert_close(dbias, through.sum(kept), 10 * tolerance, "dbias", scale=x.size)
    if tlu:
        oracle.assert_close(dtau, np.where(above, 0, g).sum(kept), 10 * tolerance, "dtau", scale=x.size)
    else:
        assert dtau is None


def test_gradients_are_finite_differences(rng):
    x = rng.standard_normal((3, 4, 5)) + 0.5
    weight, bias, tau = rng.standard_normal((3, 4))
    check_function(F.filter_response_norm, x, weight, bias, tau, rng=rng)
    check_function(F.filter_response_norm, x, None, None, tau, rng=rng)
    check_function(lambda *a: F.filter_response_norm(*a, channel_axis=-1), x, None, np.ones(5), None, rng=rng)
    layer = FilterResponseNorm(4, dtype=np.float64)
    for parameter in layer.parameters():
        parameter.data[...] = rng.standard_normal(4)
    check_module(layer, x, rng)
    check_module(FilterResponseNorm(4, tlu=False, bias=False, dtype=np.float64), x, rng)


def test_samples_are_independent_and_means_are_not_subtracted(rng):
    x = rng.standard_normal((4, 3, 6)) + 3
    y, backward = F.filter_response_norm(x)
    np.testing.assert_array_equal(F.filter_response_norm(x[1:2])[0], y[1:2])
    np.testing.assert_array_equal(backward(x)[0][1:2], F.filter_response_norm(x[1:2])[1](x[1:2])[0])
    np.testing.assert_allclose((y**2).mean(axis=2), 1, rtol=1e-6)
    assert y.mean() > 0.5 > abs(GroupNorm(3, 3)(x)[0].mean())


def test_the_gradient_at_the_threshold_is_that_of_tau(rng):
    tau, dy = np.zeros(3), rng.standard_normal((2, 3, 4))
    y, backward = F.filter_response_norm(np.zeros((2, 3, 4)), None, None, tau)
    dx, _, _, dtau = backward(dy)
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_array_equal(dx, 0)
    np.testing.assert_allclose(dtau, dy.sum(axis=(0, 2)))


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2), (4, 0), (4, 3, 0), (4, 0, 2)])
def test_no_values(shape):
    x, one = np.zeros(shape, np.float32), np.ones(shape[1])
    y, backward = F.filter_response_norm(x, one, one, one)
    dx, *gradients = backward(y)
    assert y.shape == dx.shape == shape
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, np.zeros(shape[1]))


def test_layers_have_the_names_of_timm_and_no_weight_decay(rng):
    layer, x = FilterResponseNorm(3), rng.standard_normal((2, 3, 4))
    assert list(layer.state_dict()) == ["weight", "bias", "tau"]
    assert not any(parameter.decay for parameter in layer.parameters())
    np.testing.assert_array_equal(layer(x)[0], np.maximum(F.filter_response_norm(x)[0], 0))
    _, backward = layer(x)
    layer.tau.version += 1
    with pytest.raises(RuntimeError, match="have changed since the forward"):
        backward(x)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: F.filter_response_norm(x, np.ones(4)), r"weight must have shape \(3,\)"),
        (lambda x: F.filter_response_norm(x, tau=np.ones(4)), r"tau must have shape \(3,\)"),
        (lambda x: F.filter_response_norm(x, eps=-1), "eps must be finite"),
        (lambda x: F.filter_response_norm(x, eps=None), "eps must be a number"),
        (lambda x: F.filter_response_norm(x)[1](x[:1]), "dy must have y's shape"),
        (lambda x: F.filter_response_norm(x.astype(int)), "must have dtype float16"),
        (lambda x: FilterResponseNorm(4)(x), "x must have 4 channels"),
        (lambda _x: FilterResponseNorm(0), "num_features must be at least 1"),
    ],
)
def test_errors_state_what_was_passed_and_what_was_expected(call, text, rng):
    with pytest.raises((ValueError, TypeError), match=text):
        call(rng.standard_normal((2, 3, 4)))
