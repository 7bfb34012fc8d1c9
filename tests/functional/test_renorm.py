"""Batch renormalization in one process."""

from __future__ import annotations

import copy

import numpy as np
import oracle
import pytest
from gradcheck import check_function

from syncbn import BatchNorm, BatchRenorm
from syncbn import functional as F
from syncbn.layers import LinearRamp

TOLERANCE = {"float16": 1e-3, "float32": 4e-7, "float64": 1e-14}


def statistics(rng, channels=3):
    """Return running statistics far from those of standard normal values, so that some corrections are clipped."""
    return rng.standard_normal(channels) * 2, rng.random(channels) * 3 + 0.05


def expected_of(x, dy, weight, bias, mean, var, r_max, d_max, mask=None, eps=1e-5):
    """Return y and the gradients by the formulas in extended precision."""
    normal = oracle.batch_norm(x, dy, np.ones(len(mean)), np.zeros(len(mean)), eps, mask)
    sigma = np.sqrt(np.asarray(var, np.longdouble) + eps)
    r = np.clip(np.sqrt(normal.var + eps) / sigma, 1 / np.longdouble(r_max), r_max)
    d = np.clip((normal.mean - mean) / sigma, -d_max, d_max)
    to_c = (1, -1) + (1,) * (x.ndim - 2)
    r_c, d_c, gamma, beta = (np.asarray(a, np.longdouble).reshape(to_c) for a in (r, d, weight, bias))
    corrected = normal.y * r_c + d_c
    dx = oracle.batch_norm(x, dy * gamma * r_c, np.ones(len(mean)), np.zeros(len(mean)), eps, mask).dx
    axes = (0, *range(2, x.ndim))
    return corrected * gamma + beta, dx, (dy * corrected).sum(axes), dy.astype(np.longdouble).sum(axes)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("limits", [(1.0, 0.0), (1.5, 0.5), (3.0, 5.0), (np.inf, np.inf)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_the_formula(dtype, limits, masked, last, rng):
    x, dy = (rng.standard_normal((2, 8, 3, 5)) + 1).astype(dtype)
    weight, bias = rng.standard_normal((2, 3)).astype(dtype)
    mean, var = statistics(rng)
    mask = rng.random((8, 5)) < 0.6 if masked else None
    if last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    y, moments, backward = F.batch_renorm(x, mean, var, weight, bias, r_max=limits[0], d_max=limits[1], mask=mask)
    found = y, *backward(dy)
    expected = expected_of(x, dy, weight, bias, mean, var, *limits, mask)
    for name, one, other in zip(("y", "dx", "dweight", "dbias"), found, expected, strict=True):
        assert one.dtype == np.dtype(dtype)
        oracle.assert_close(
            one, other, 10 * TOLERANCE[dtype], name, scale=np.abs(other).max() + x.size * name.startswith("dw")
        )
    assert y.strides == found[1].strides == x.strides
    assert moments.count == (40 if mask is None else mask.sum())


def test_gradients_are_finite_differences_of_the_function_with_constant_corrections(rng):
    x, (mean, var) = rng.standard_normal((8, 3, 2)) + 2, statistics(rng)
    weight, bias = rng.standard_normal((2, 3))
    for limits in ({"r_max": 1.0, "d_max": 0.0}, {"r_max": 1.001, "d_max": 0.01}):  # all are clipped

        def forward(*arguments, limits=limits):
            y, _, backward = F.batch_renorm(arguments[0], mean + 9, var * 9, *arguments[1:], **limits)
            return y, backward

        check_function(forward, x, weight, bias, rng=rng)
        check_function(forward, x, None, bias, rng=rng)


def test_without_corrections_it_is_batch_norm_and_without_limits_inference(rng):
    x, dy = rng.standard_normal((2, 8, 3, 2)).astype(np.float32)
    (mean, var), (weight, bias) = statistics(rng), rng.standard_normal((2, 3))
    y, _, backward = F.batch_renorm(x, mean, var, weight, bias, r_max=1, d_max=0)
    plain, _, plain_backward = F.batch_norm(x, weight, bias)
    np.testing.assert_array_equal(y, plain)
    for one, other in zip(backward(dy), plain_backward(dy), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    y = F.batch_renorm(x, mean, var, weight, bias, r_max=np.inf, d_max=np.inf)[0]
    np.testing.assert_allclose(y, F.batch_norm_inference(x, mean, var, weight, bias)[0], rtol=1e-5, atol=1e-5)
    assert not np.allclose(y, plain, atol=1e-2)


@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_a_constant_channel(eps):
    x = np.full((4, 2), 7.5, np.float32)
    y, _, backward = F.batch_renorm(x, np.array([7.5, 7.0]), np.ones(2), None, np.array([1.0, 2.0]), eps=eps)
    np.testing.assert_allclose(y, np.broadcast_to([1.0, 2.5], (4, 2)), rtol=1e-5)
    np.testing.assert_array_equal(backward(x)[0], 0)


def test_the_layer_follows_its_schedules_and_updates_the_running_statistics_afterwards(rng):
    limits = {"r_max": LinearRamp(1, 3, 1, 3), "d_max": lambda step: step / 2}
    layer, plain = BatchRenorm(3, dtype=np.float64, **limits), BatchNorm(3, dtype=np.float64)
    for step in range(5):
        x = rng.standard_normal((6, 3)) * (step + 1) + step
        r_max = (1, 1, 2, 3, 3)[step]
        before = layer.running_mean.copy(), layer.running_var.copy()
        expected, _, expected_backward = F.batch_renorm(x, *before, r_max=r_max, d_max=step / 2)
        y, backward = layer(x)
        plain(x)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(backward(x), expected_backward(x)[0])
    np.testing.assert_array_equal(layer.running_var, plain.running_var)
    assert layer.moments.count == 6
    np.testing.assert_array_equal(layer.eval()(x)[0], plain.eval()(x)[0])
    plain.load_state_dict(layer.state_dict())
    state = {name: array.tobytes() for name, array in layer.state_dict().items()}
    layer(x)
    assert state == {name: array.tobytes() for name, array in layer.state_dict().items()}


def test_the_schedules_of_the_paper_by_default():
    layer = BatchRenorm(3)
    assert [layer.r_max(step) for step in (0, 5_000, 22_500, 40_000, 10**6)] == [1, 1, 2, 3, 3]
    assert [layer.d_max(step) for step in (0, 5_000, 15_000, 25_000, 10**6)] == [0, 0, 2.5, 5, 5]


def test_no_values_and_the_backward(rng):
    for shape in ((0, 3), (0, 3, 2), (4, 0)):
        c = shape[1]
        y, _, backward = F.batch_renorm(np.zeros(shape), np.zeros(c), np.ones(c), np.ones(c))
        assert y.shape == backward(y)[0].shape == shape
    layer = BatchRenorm(3)
    y, backward = layer(rng.standard_normal((4, 3)))
    plain = F.batch_renorm(y, np.zeros(3), np.ones(3))[2]
    assert copy.deepcopy(plain) is plain
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="have changed since the forward"):
        backward(y)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x, m: F.batch_renorm(x, m, m, r_max=0.5), r"r_max must be at least 1, got 0\.5"),
        (lambda x, m: F.batch_renorm(x, m, m, d_max=-1), "d_max must be at least 0, got -1"),
        (lambda x, m: F.batch_renorm(x, m, m, r_max=np.nan), "r_max must be at least 1, got nan"),
        (lambda x, m: F.batch_renorm(x, m, m, d_max="1"), "d_max must be a number, got '1'"),
        (lambda x, m: F.batch_renorm(x, m, m[:2]), r"running_var must have shape \(3,\)"),
        (lambda x, m: F.batch_renorm(x, m, -m), r"running_var must not be negative, got -1\.0 for channel 0"),
        (lambda x, m: F.batch_renorm(x, m, m, m[:2]), r"weight must have shape \(3,\)"),
        (lambda x, m: F.batch_renorm(x[:1], m, m), "more than 1 value per channel"),
        (lambda x, m: F.batch_renorm(x, m, m)[2](x[:1]), "dy must have y's shape"),
        (lambda x, _m: BatchRenorm(4)(x), "x must have 4 channels"),
        (lambda x, _m: BatchRenorm(3, r_max=lambda _: 0)(x), "r_max must be at least 1, got 0"),
    ],
)
def test_errors_state_what_was_passed_and_what_was_expected(call, text, rng):
    with pytest.raises((ValueError, TypeError), match=text):
        call(rng.standard_normal((5, 3)), np.ones(3))


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_channel_at_a_running_mean_without_variance(value):
    """σ = 0 and μ is the running mean: 0/0, so that y = β."""
    y, *_ = F.batch_renorm(
        np.full((4, 1), value), np.array([value]), np.zeros(1), None, np.array([2.0]), eps=0.0, r_max=3, d_max=5
    )
    np.testing.assert_array_equal(y, np.full((4, 1), 2.0))
