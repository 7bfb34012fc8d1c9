"""Normalizers without communication: group, instance, layer, root mean square, weight."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from gradcheck import check_function
from hypothesis import given
from hypothesis import strategies as st

from syncbn import functional as F

TOLERANCE = {"float16": 1e-3, "float32": 4e-7, "float64": 1e-14}
dtypes = st.sampled_from(["float16", "float32", "float64"])
offsets = st.sampled_from([0.0, 100.0])
seeds = st.integers(0, 2**32 - 1)


def random_arrays(seed, shape, parameter_shape, dtype, offset):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) + offset).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    weight, bias = rng.standard_normal((2, *parameter_shape)).astype(dtype)
    return x, dy, weight, bias


def assert_normalized(result, expected, dtype, offset, dy, weight):
    y, (dx, dweight, dbias) = result
    tolerance = TOLERANCE[dtype] * (1 + offset if dtype == "float64" else 1)
    terms = np.abs(dy).max() * np.abs(weight).max() / np.sqrt(expected.var.min() + 1e-5)
    assert y.dtype == dx.dtype == np.dtype(dtype)
    oracle.assert_close(y, expected.y, tolerance, "y")
    oracle.assert_close(dx, expected.dx, 10 * tolerance, "dx", scale=terms)
    oracle.assert_close(dweight, expected.dweight, 20 * tolerance, "dweight", scale=terms + abs(expected.dweight).max())
    oracle.assert_close(dbias, expected.dbias, 20 * tolerance, "dbias", scale=terms + abs(expected.dbias).max())


@given(
    seeds,
    st.sampled_from([(3, 6), (2, 12, 5), (3, 6, 4, 3)]),
    st.sampled_from([1, 2, 3, 6]),
    dtypes,
    offsets,
    st.booleans(),
)
def test_group_norm_is_the_formula_in_both_memory_orders(seed, shape, groups, dtype, offset, last):
    x, dy, weight, bias = random_arrays(seed, shape, shape[1:2], dtype, offset)
    n, c = shape[:2]
    size = c // groups
    grouped = [a.reshape(n, groups, size, -1) for a in (x, dy)]
    by_channel = [a.reshape(1, groups, size, 1) for a in (weight, bias)]
    expected = oracle.normalize(*grouped, (2, 3), *by_channel, 1e-5)
    expected = expected._replace(
        y=expected.y.reshape(shape),
        dx=expected.dx.reshape(shape),
        dweight=expected.dweight.sum((0, 3)).ravel(),
        dbias=expected.dbias.sum((0, 3)).ravel(),
    )
    if last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    y, backward = F.group_norm(x, groups, weight, bias)
    assert_normalized((y, backward(dy)), expected, dtype, offset, dy, weight)
    assert y.strides == x.strides


@given(seeds, st.sampled_from([(2, 5, 7), (3, 2, 4, 3)]), dtypes, offsets)
def test_instance_norm_is_the_formula(seed, shape, dtype, offset):
    x, dy, weight, bias = random_arrays(seed, shape, shape[1:2], dtype, offset)
    axes = tuple(range(2, x.ndim))
    c = (1, -1) + (1,) * len(axes)
    expected = oracle.normalize(x, dy, axes, weight.reshape(c), bias.reshape(c), 1e-5)
    expected = expected._replace(dweight=expected.dweight.sum((0, *axes)), dbias=expected.dbias.sum((0, *axes)))
    y, backward = F.instance_norm(x, weight, bias)
    assert_normalized((y, backward(dy)), expected, dtype, offset, dy, weight)


@given(
    seeds,
    st.sampled_from([((9,), 1), ((4, 9), 1), ((3, 5, 4), 2), ((2, 3, 4, 5), 3), ((2, 3, 4, 5), 4)]),
    dtypes,
    offsets,
)
def test_layer_norm_is_the_formula(seed, case, dtype, offset):
    shape, trailing = case
    normalized = shape[len(shape) - trailing :]
    x, dy, weight, bias = random_arrays(seed, shape, normalized, dtype, offset)
    rows = tuple(range(len(shape) - trailing))
    expected = oracle.normalize(x, dy, tuple(range(len(rows), len(shape))), weight, bias, 1e-5)
    expected = expected._replace(dweight=expected.dweight.sum(rows), dbias=expected.dbias.sum(rows))
    y, backward = F.layer_norm(x, normalized, weight, bias)
    assert_normalized((y, backward(dy)), expected, dtype, offset, dy, weight)


@given(seeds, st.sampled_from([(9,), (4, 9), (3, 5, 4)]), dtypes)
def test_rms_norm_is_the_formula(seed, shape, dtype):
    x, dy, weight, _ = random_arrays(seed, shape, shape[-1:], dtype, 0.5)
    eps = float(np.finfo("float32" if dtype == "float16" else dtype).eps)
    wide = x.astype(np.longdouble)
    rms = np.sqrt((wide**2).mean(axis=-1, keepdims=True) + eps)
    g = dy * weight.astype(np.longdouble)
    dx = g / rms - wide * (g * wide).mean(axis=-1, keepdims=True) / rms**3
    y, backward = F.rms_norm(x, shape[-1], weight)
    got_dx, dweight = backward(dy)
    oracle.assert_close(y, wide / rms * weight, TOLERANCE[dtype], "y")
    oracle.assert_close(got_dx, dx, 10 * TOLERANCE[dtype], "dx", scale=np.abs(g / rms).max())
    oracle.assert_close(
        dweight, (dy * wide / rms).sum(tuple(range(x.ndim - 1))), 10 * TOLERANCE[dtype], "dweight", scale=x.size
    )


def test_gradients_are_finite_differences(rng):
    x = rng.standard_normal((3, 4, 2, 3)) + 2
    weight, bias = rng.standard_normal((2, 4))
    check_function(lambda *a: F.group_norm(a[0], 2, *a[1:]), x, weight, bias, rng=rng)
    check_function(lambda *a: F.group_norm(a[0], 2, *a[1:]), x, None, None, rng=rng)
    check_function(F.instance_norm, x, weight, bias, rng=rng)
    row_weight, row_bias = rng.standard_normal((2, 2, 3))
    check_function(lambda *a: F.layer_norm(a[0], (2, 3), *a[1:]), x, row_weight, row_bias, rng=rng)
    check_function(lambda *a: F.layer_norm(a[0], 3, *a[1:]), x, None, rng.standard_normal(3), rng=rng)
    check_function(lambda *a: F.rms_norm(a[0], (2, 3), *a[1:]), x, row_weight, rng=rng)
    v = rng.standard_normal((4, 3, 2, 2))
    for axis, g_shape in ((0, (4, 1, 1, 1)), (1, (1, 3, 1, 1)), (-1, (1, 1, 1, 2)), (None, ())):
        g = np.asarray(rng.standard_normal(g_shape))
        check_function(lambda v, g, axis=axis: F.weight_norm(v, g, axis=axis), v, g, rng=rng)


def test_weight_norm_has_the_length_g_in_the_direction_v(rng):
    v = rng.standard_normal((5, 3, 2)).astype(np.float32)
    g = rng.random((5, 1, 1)).astype(np.float32)
    w, backward = F.weight_norm(v, g)
    np.testing.assert_allclose(np.linalg.norm(w.reshape(5, -1), axis=1), g.ravel(), rtol=1e-6)
    np.testing.assert_allclose(w / g, v / np.linalg.norm(v.reshape(5, -1), axis=1)[:, None, None], rtol=1e-5)
    dv, dg = backward(w)
    assert (dv.shape, dg.shape, dv.dtype, dg.dtype) == (v.shape, g.shape, v.dtype, g.dtype)
    np.testing.assert_allclose(np.vdot(dv, v), 0, atol=1e-5)  # dv has no component along v


def test_group_norm_of_one_group_and_of_one_channel_a_group_are_layer_and_instance_norm(rng):
    x = rng.standard_normal((3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(F.group_norm(x, 1)[0], F.layer_norm(x, (4, 5))[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(F.group_norm(x, 4)[0], F.instance_norm(x)[0])
    assert not np.allclose(F.group_norm(x, 2)[0], F.group_norm(x, 4)[0], atol=1e-2)


@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_constant_values_give_exactly_the_bias(eps):
    x = np.full((2, 4, 3), 7777.7, np.float32)
    bias = np.arange(4, dtype=np.float32)
    expected = np.broadcast_to(bias[:, None], x.shape)
    np.testing.assert_array_equal(F.group_norm(x, 2, None, bias, eps=eps)[0], expected)
    np.testing.assert_array_equal(F.instance_norm(x, None, bias, eps=eps)[0], expected)
    np.testing.assert_array_equal(F.layer_norm(x, (4, 3), None, np.array(expected[0]), eps=eps)[0], expected)
    np.testing.assert_array_equal(F.rms_norm(0 * x, 3, eps=eps)[0], 0)


def test_channels_last_axis_and_layer_norm_of_channels_last_memory(rng):
    x = rng.standard_normal((2, 5, 6, 4)).astype(np.float32)
    for f in (
        lambda a, axis: F.group_norm(a, 2, channel_axis=axis),
        lambda a, axis: F.instance_norm(a, channel_axis=axis),
    ):
        y, backward = f(x, -1)
        y_first, backward_first = f(np.moveaxis(x, -1, 1), 1)
        np.testing.assert_array_equal(y, np.moveaxis(y_first, 1, -1))
        np.testing.assert_array_equal(backward(x)[0], np.moveaxis(backward_first(np.moveaxis(x, -1, 1))[0], 1, -1))
    memory_last = np.moveaxis(x, -1, 1)
    y, _ = F.layer_norm(memory_last, (4, 5, 6))
    assert y.strides == memory_last.strides
    np.testing.assert_array_equal(y, F.layer_norm(np.ascontiguousarray(memory_last), (4, 5, 6))[0])


def test_empty_batches():
    x = np.zeros((0, 4, 3), np.float32)
    for y, backward in (F.group_norm(x, 2), F.instance_norm(x), F.layer_norm(x, 3), F.rms_norm(x, 3)):
        assert y.shape == backward(x)[0].shape == x.shape


X = np.ones((4, 6, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.group_norm(X, 4), ValueError, "num_groups must divide the 6 channels of x, got 4"),
        (lambda: F.group_norm(X, 0), ValueError, "num_groups"),
        (lambda: F.group_norm(X, 2.0), TypeError, "num_groups must be an integer"),
        (lambda: F.group_norm(X, 2, np.ones(2)), ValueError, r"weight must have shape \(6,\)"),
        (lambda: F.instance_norm(X[:, :, 0]), ValueError, "more than 1 value"),
        (lambda: F.layer_norm(X, (6, 3)), ValueError, r"end in normalized_shape \(6, 3\), got shape \(4, 6, 2\)"),
        (lambda: F.layer_norm(X, (1, 4, 6, 2)), ValueError, "end in normalized_shape"),
        (lambda: F.layer_norm(X, ()), TypeError, "normalized_shape"),
        (lambda: F.layer_norm(X.astype(int), 2), TypeError, "got int64"),
        (lambda: F.layer_norm(X, 2)[1](X[0]), ValueError, "dy must have"),
        (lambda: F.rms_norm(X, 2, eps=-1.0), ValueError, "eps"),
        (lambda: F.weight_norm(X, np.ones(4)), ValueError, r"g must have shape \(4, 1, 1\)"),
        (lambda: F.weight_norm(X, np.ones((4, 1, 1)), axis=3), ValueError, "axis must be in"),
    ],
)
def test_bad_input_says_what_came_and_what_was_expected(call, error, text):
    with pytest.raises(error, match=text):
        call()


NORMS = {
    "group": lambda x, eps: F.group_norm(x, 2, eps=eps),
    "group, channels last": lambda x, eps: F.group_norm(
        np.ascontiguousarray(x.swapaxes(1, 2)), 2, eps=eps, channel_axis=2
    ),
    "instance": lambda x, eps: F.instance_norm(x, eps=eps),
    "layer": lambda x, eps: F.layer_norm(x, (4, 3), eps=eps),
    "root mean square": lambda x, eps: F.rms_norm(x, (4, 3), eps=eps),
    "weight": lambda x, eps: F.weight_norm(x, np.ones((3, 1, 1))),  # noqa: ARG005
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("exponent", [-980, -540, -530, -520, -510, -480, 400, 505, 515, 540, 980])
def test_what_float64_cannot_square_is_right_or_not_finite(rng, norm, exponent):
    """Values of any magnitude that are not constant give neither zeros nor wrong digits without saying so."""
    x = rng.standard_normal((3, 4, 3))
    y0, backward0 = NORMS[norm](x, 0.0)
    y, backward = NORMS[norm](np.ldexp(x, exponent), 0.0)
    dy = rng.standard_normal(y.shape)
    for came, expected in ((y, y0), (np.ldexp(backward(dy)[0], exponent), backward0(dy)[0])):
        right = np.isclose(came, expected, rtol=1e-9)
        assert (right | np.isnan(came)).all()
        assert right.all() == (norm == "weight" or -500 < exponent < 510)


@pytest.mark.parametrize("norm", sorted(set(NORMS) - {"weight"}))
def test_small_constants_are_constants(norm):
    for value in (0.0, 1e-200, 5e-324):
        x = np.full((3, 4, 3), value * (norm != "root mean square"))
        for eps in (0.0, 1e-310):
            np.testing.assert_array_equal(NORMS[norm](x, eps)[0], 0)


def test_channels_that_are_none():
    x = np.zeros((2, 0, 3), np.float32)
    for y, backward in (F.group_norm(x, 2), F.instance_norm(x)):
        assert y.shape == backward(x)[0].shape == x.shape


def test_weight_norm_in_foreign_byte_order_and_of_no_axes():
    for v in (np.ones((2, 3), ">f4"), np.array(2.0, ">f4")):
        g = np.ones((2, 1) if v.ndim else (), ">f4")
        w, backward = F.weight_norm(v, g, axis=0 if v.ndim else None)
        for array in (w, *backward(w)):
            assert isinstance(array, np.ndarray)
            assert array.dtype == np.float32


@pytest.mark.parametrize("weight_scale", [1.0, 1e-20, 1e20])
@pytest.mark.parametrize("dy_scale", [1e-30, 1e-10, 1.0, 1e10, 1e30])
@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1.0, 1e15, 1e20, 1e30])
def test_float32_has_the_results_of_float64_at_any_scale(rng, scale, dy_scale, weight_scale):
    """Also where the factors of y and dx, or products of them, are too small or too large for float32."""
    x, dy = rng.standard_normal((2, 6, 4, 35))
    x, dy = (x * scale).astype(np.float32), (dy * dy_scale).astype(np.float32)
    weight, bias = ((rng.uniform(0.5, 2, (2, 140))) * weight_scale).astype(np.float32)
    flat = (6, 140)
    calls = {
        "batch": lambda x: F.batch_norm(x, weight[:4], bias[:4], eps=0.0)[::2],
        "group": lambda x: F.group_norm(x, 2, weight[:4], bias[:4], eps=0.0),
        "instance": lambda x: F.instance_norm(x, weight[:4], bias[:4], eps=0.0),
        "layer": lambda x: F.layer_norm(x.reshape(flat), 140, weight, bias, eps=0.0),
        "rms": lambda x: F.rms_norm(x.reshape(flat), 140, weight, eps=0.0),
    }
    for name, call in calls.items():
        found, expected = [], []
        for results, dtype in ((found, np.float32), (expected, np.float64)):
            y, backward = call(x.astype(dtype))
            results += [y, *(a for a in backward(dy.astype(dtype).reshape(y.shape)) if a is not None)]
        for one, other in zip(found, expected, strict=True):
            with np.errstate(over="ignore"):
                rounded = other.astype(np.float32)
            finite = np.isfinite(rounded)
            np.testing.assert_array_equal(np.isfinite(one), finite, err_msg=name)
            atol = 3e-6 * np.abs(other).max() + 3e-45
            np.testing.assert_allclose(one[finite], rounded[finite], rtol=0, atol=atol, err_msg=name)
