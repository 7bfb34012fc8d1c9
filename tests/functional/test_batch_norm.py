"""Batch normalization in one process against the formulas."""

from __future__ import annotations

import tracemalloc

import numpy as np
import oracle
import pytest
from gradcheck import check_function
from hypothesis import given
from hypothesis import strategies as st

from syncbn import functional as F

TOLERANCE = {"float16": 1e-3, "float32": 4e-7, "float64": 1e-14}
reductions = pytest.mark.parametrize("reduction", ["exact", "float64"])


def random_batch(rng, shape, dtype=np.float32, offset=0.0, scale=1.0):
    x = (rng.standard_normal(shape) * scale + offset).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[1])).astype(dtype)
    return x, dy, weight, bias


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(2, 3), (9, 4), (2, 1), (3, 2, 5), (2, 5, 3, 4), (1, 17, 2, 2, 3)]),
    st.sampled_from(["float16", "float32", "float64"]),
    st.sampled_from([0.0, 1e3]),
    st.sampled_from(["exact", "float64"]),
    st.booleans(),
)
def test_values_moments_and_gradients_are_those_of_the_formula(seed, shape, dtype, offset, reduction, masked):
    rng = np.random.default_rng(seed)
    x, dy, weight, bias = random_batch(rng, shape, dtype, offset, 3.0)
    mask = None
    if masked:
        mask = rng.random((shape[0], *shape[2:])) < 0.6
        mask.flat[:2] = True
    expected = oracle.batch_norm(x, dy, weight, bias, mask=mask)
    y, moments, backward = F.batch_norm(x, weight, bias, mask=mask, reduction=reduction)
    dx, dweight, dbias = backward(dy)
    assert (y.dtype, dx.dtype, dweight.dtype, dbias.dtype) == (x.dtype,) * 4
    assert moments.count == (x.size // shape[1] if mask is None else mask.sum())
    condition = (1 + np.abs(expected.mean) / np.sqrt(expected.var)).max()
    tolerance = TOLERANCE[dtype] * (condition if dtype == "float64" else 1)
    size = np.sqrt(expected.mean**2 + expected.var).max()
    oracle.assert_close(moments.mean, expected.mean, 1e-15, "mean", scale=size)
    oracle.assert_close(moments.var, expected.var, 1e-13, "var")
    oracle.assert_close(y, expected.y, tolerance, "y")
    terms = np.abs(dy).max() * np.abs(weight).max() / np.sqrt(expected.var.min() + 1e-5)  # which may cancel in dx
    oracle.assert_close(dx, expected.dx, 10 * tolerance, "dx", scale=terms)
    oracle.assert_close(dweight, expected.dweight, 10 * tolerance, "dweight")
    oracle.assert_close(dbias, expected.dbias, 10 * tolerance, "dbias")


def test_gradients_are_finite_differences(rng):
    x, _, weight, bias = random_batch(rng, (4, 3, 2, 3), np.float64, offset=5.0)

    def run(x, weight, bias, **options):
        y, _, backward = F.batch_norm(x, weight, bias, **options)
        return y, backward

    check_function(run, x, weight, bias, rng=rng)
    check_function(lambda *a: run(*a, eps=0.1), x, None, None, rng=rng)
    mask = rng.random((4, 2, 3)) < 0.5
    check_function(lambda *a: run(*a, mask=mask), x, weight, None, rng=rng)


def test_masked_gradients_of_unselected_values_are_their_own_direct_term(rng):
    x, dy, weight, bias = random_batch(rng, (4, 3, 5), np.float64)
    mask = rng.random((4, 5)) < 0.5
    _, moments, backward = F.batch_norm(x, weight, bias, mask=mask)
    dx, _, _ = backward(dy)
    direct = dy * (weight / np.sqrt(moments.var + 1e-5))[:, None]
    outside = np.broadcast_to(~mask[:, None, :], x.shape)
    np.testing.assert_allclose(dx[outside], direct[outside], rtol=1e-14)
    assert not np.allclose(dx[~outside], direct[~outside], rtol=1e-3)


def test_a_mask_of_all_true_changes_no_bit(rng):
    x, dy, weight, bias = random_batch(rng, (4, 3, 21), offset=1e3)
    plain = F.batch_norm(x, weight, bias)
    masked = F.batch_norm(x, weight, bias, mask=np.True_)
    np.testing.assert_array_equal(plain[0], masked[0])
    np.testing.assert_array_equal(plain[2](dy)[0], masked[2](dy)[0])
    np.testing.assert_array_equal(plain[1].var, masked[1].var)


def layouts(x):
    """The same values in other memory: name, array, whether its memory order is kept."""
    padded = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    padded[..., ::2] = x
    raw = bytearray(x.nbytes + 1)
    unaligned = np.frombuffer(raw, np.uint8, x.nbytes, 1).view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "contiguous": (x, True),
        "channels last": (
            np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, x.ndim - 1, *range(1, x.ndim - 1)),
            True,
        ),
        "Fortran": (np.asfortranarray(x), False),
        "negative strides": (x[::-1, ::-1].copy()[::-1, ::-1], False),
        "sliced": (padded[..., ::2], False),
        "foreign byte order": (x.astype(x.dtype.newbyteorder()), True),
        "unaligned": (unaligned, True),
        "read-only": (read_only, True),
    }


@reductions
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(4, 5, 6, 7), (3, 9, 2), (6, 10)])
def test_every_memory_layout_gives_the_bits_of_a_contiguous_native_array(rng, shape, dtype, reduction):
    x, dy, weight, bias = random_batch(rng, shape, dtype, offset=2.0)
    y0, moments0, backward0 = F.batch_norm(x, weight, bias, reduction=reduction)
    expected = backward0(dy)
    for what, (a, kept) in layouts(x).items():
        before = a.copy()
        y, moments, backward = F.batch_norm(a, weight, bias, reduction=reduction)
        gradients = backward(layouts(dy)[what][0])
        np.testing.assert_array_equal(y, y0, err_msg=what)
        np.testing.assert_array_equal(moments.var, moments0.var, err_msg=what)
        for one, other in zip(gradients, expected, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=what)
        np.testing.assert_array_equal(a, before, err_msg=f"{what}: x was written")
        assert y.dtype == gradients[0].dtype == np.dtype(dtype)
        assert y.dtype.isnative
        if kept:
            assert y.strides == gradients[0].strides == (x if what == "foreign byte order" else a).strides
        else:
            assert y.flags.c_contiguous
            assert gradients[0].flags.c_contiguous


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
def test_the_channel_axis_may_be_any(rng, axis):
    x, dy, _, _ = random_batch(rng, (4, 5, 6, 7))
    channels = x.shape[axis]
    weight, bias = rng.standard_normal((2, channels)).astype(np.float32)
    y, _, backward = F.batch_norm(x, weight, bias, channel_axis=axis)
    first = [np.moveaxis(a, axis, 1) for a in (x, dy)]
    expected = oracle.batch_norm(*first, weight, bias)
    oracle.assert_close(np.moveaxis(y, axis, 1), expected.y, 4e-7, "y")
    oracle.assert_close(np.moveaxis(backward(dy)[0], axis, 1), expected.dx, 4e-6, "dx")
    assert y.flags.c_contiguous


def test_channels_last_memory_is_not_copied(rng):
    x = np.moveaxis(rng.standard_normal((2, 64, 64, 3)).astype(np.float32), -1, 1)
    allocated = {}
    for name, array in {"channels-last": x, "neither order": x[:, :, ::-1]}.items():
        tracemalloc.start()
        y, _, _ = F.batch_norm(array)
        allocated[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.moveaxis(y, 1, -1).flags.c_contiguous == (name == "channels-last")
    assert allocated["channels-last"] < 1.5 * x.nbytes  # y
    assert allocated["neither order"] > 2 * x.nbytes


@reductions
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 1e-3, 7777.7])
@pytest.mark.parametrize("shape", [(64, 3), (3, 2, 49), (1, 1, 1000)])
def test_a_constant_channel_gives_exactly_the_bias(shape, value, dtype, reduction):
    x = np.full(shape, value, dtype)
    bias = np.linspace(-1, 1, shape[1], dtype=dtype)
    for eps in (1e-5, 0.0):
        y, moments, _ = F.batch_norm(x, None, bias, eps=eps, reduction=reduction)
        np.testing.assert_array_equal(moments.var, 0)
        np.testing.assert_array_equal(moments.mean, x[0, 0].flat[0])
        np.testing.assert_array_equal(y, np.broadcast_to(bias.reshape(-1, *[1] * (x.ndim - 2)), x.shape))


@pytest.mark.parametrize("ratio", [1e3, 1e5, 1e7])
@pytest.mark.parametrize("shape", [(200, 4), (4, 4, 50)])
def test_large_means_cost_no_accuracy(rng, shape, ratio):
    x, dy, weight, bias = random_batch(rng, shape, offset=ratio)
    expected = oracle.batch_norm(x, dy, weight, bias)
    y, moments, backward = F.batch_norm(x, weight, bias)
    oracle.assert_close(y, expected.y, 4e-7, "y")
    oracle.assert_close(moments.var, expected.var, 1e-12, "var")
    oracle.assert_close(backward(dy)[0], expected.dx, 4e-6, "dx")
    raw = np.mean(x.astype(float) ** 2, axis=(0, *range(2, x.ndim))) - moments.mean**2
    if ratio == 1e7:  # the formula that is not used
        assert np.abs(raw - expected.var).max() > 1e-4


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e-42])
def test_float32_of_any_magnitude_keeps_its_accuracy(rng, scale):
    x, dy, weight, bias = random_batch(rng, (20, 3, 5), scale=scale)
    expected = oracle.batch_norm(x, dy, weight, bias, eps=0.0)
    y, _, backward = F.batch_norm(x, weight, bias, eps=0.0)
    oracle.assert_close(y, expected.y, 4e-7, "y")
    with np.errstate(over="ignore"):
        dx = expected.dx.astype(np.float32)
    if np.isfinite(dx).all():
        oracle.assert_close(backward(dy)[0], dx, 1e-5, "dx")


@reductions
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_spoils_its_channel_alone(rng, bad, reduction):
    x, dy, weight, bias = random_batch(rng, (5, 4, 6))
    clean_y, clean, clean_backward = F.batch_norm(x, weight, bias, reduction=reduction)
    clean_dx, _, _ = clean_backward(dy)
    spoiled = x.copy()
    spoiled[3, 2, 1] = bad
    y, moments, backward = F.batch_norm(spoiled, weight, bias, reduction=reduction)
    dx, _, _ = backward(dy)
    others = [0, 1, 3]
    assert not np.isfinite(y[:, 2]).any()
    assert np.isnan(moments.var[2])
    assert not np.isfinite(dx[:, 2]).any()
    np.testing.assert_array_equal(y[:, others], clean_y[:, others])
    np.testing.assert_array_equal(dx[:, others], clean_dx[:, others])
    np.testing.assert_array_equal(moments.var[others], clean.var[others])


def test_an_empty_batch_gives_empty_y_and_zero_gradients():
    x = np.zeros((0, 3, 4), np.float32)
    y, moments, backward = F.batch_norm(x, np.ones(3, np.float32), np.ones(3, np.float32))
    dx, dweight, dbias = backward(x)
    assert y.shape == dx.shape == x.shape
    assert moments.count == 0
    np.testing.assert_array_equal(dweight, np.zeros(3))
    np.testing.assert_array_equal(dbias, np.zeros(3))


@reductions
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", [(8, 3), (4, 3, 37)])
def test_values_that_a_mask_excludes_have_no_effect(rng, shape, last, bad, reduction):
    """Also in the first position of a row, from which others are shifted."""
    x, dy = rng.standard_normal((2, *shape))
    mask = rng.random((shape[0], *shape[2:])) < 0.6
    mask.reshape(shape[0], -1)[:3, 0] = [False, True, True]
    hidden = np.where(np.expand_dims(mask, 1), x, bad)
    if last:
        hidden = np.moveaxis(np.ascontiguousarray(np.moveaxis(hidden, 1, -1)), -1, 1)
    selected = np.broadcast_to(np.expand_dims(mask, 1), shape)
    (y, moments, backward), (expected, expected_moments, expected_backward) = (
        F.batch_norm(values, mask=mask, reduction=reduction) for values in (hidden, x)
    )
    np.testing.assert_array_equal(moments.mean, expected_moments.mean)
    np.testing.assert_array_equal(moments.var, expected_moments.var)
    np.testing.assert_array_equal(y[selected], expected[selected])
    dy = np.where(np.expand_dims(mask, 1), dy, 0)  # no gradient of what y is there
    for found, wanted in zip(backward(dy)[1:], expected_backward(dy)[1:], strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_negative_running_variance(rng):
    x, mean = rng.standard_normal((3, 4)), np.zeros(4)
    for var, channel in (([1, 2, -1e-300, 4], 2), ([-np.inf, 1, 1, 1], 0), ([1, np.nan, 1, -3], 3)):
        with pytest.raises(ValueError, match=rf"running_var must not be negative, got -.* for channel {channel}:"):
            F.batch_norm_inference(x, mean, np.array(var))
    y, _ = F.batch_norm_inference(x, mean, np.array([0.0, -0.0, np.nan, np.inf]))
    np.testing.assert_array_equal(np.isnan(y).all(axis=0), [False, False, True, True])


def test_inference_uses_the_given_statistics(rng):
    x, dy, weight, bias = random_batch(rng, (3, 4, 5), np.float64)
    mean, var = rng.standard_normal(4), rng.random(4)
    y, backward = F.batch_norm_inference(x, mean, var, weight, bias, eps=1e-3)
    c = (slice(None), None)
    np.testing.assert_allclose(y, (x - mean[c]) / np.sqrt(var[c] + 1e-3) * weight[c] + bias[c], rtol=1e-12)
    check_function(lambda x, w, b: F.batch_norm_inference(x, mean, var, w, b), x, weight, bias, rng=rng)
    dx, _, _ = backward(dy)
    assert not np.allclose(dx, F.batch_norm(x, weight, bias)[2](dy)[0])


X = np.ones((4, 3, 2), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"x": X.astype(int)}, TypeError, "float16, float32 or float64, got int64"),
        ({"x": X.astype(complex)}, TypeError, "complex128"),
        ({"x": X.astype(np.longdouble)}, TypeError, "got"),
        ({"x": X.tolist()}, TypeError, "NumPy array .* got list"),
        ({"x": X[0, 0]}, ValueError, r"2 or more axes, got shape \(2,\)"),
        ({"weight": np.ones(4)}, ValueError, r"weight must have shape \(3,\), got \(4,\)"),
        ({"bias": np.ones(3, int)}, TypeError, "bias .* got int64"),
        ({"eps": -1e-5}, ValueError, "eps must be finite and at least 0"),
        ({"eps": np.nan}, ValueError, "eps"),
        ({"eps": "small"}, TypeError, "eps must be a number"),
        ({"channel_axis": 3}, ValueError, r"channel_axis must be in \[-3, 3\)"),
        ({"channel_axis": 1.0}, TypeError, "channel_axis must be an integer"),
        ({"mask": np.ones((4, 2))}, TypeError, "mask must have dtype bool, got float64"),
        ({"mask": np.ones((4, 3), bool)}, ValueError, r"broadcastable .* \(4, 2\), got shape \(4, 3\)"),
        ({"mask": np.zeros((4, 2), bool)}, ValueError, "mask selects no value"),
        (
            {"x": np.broadcast_to(X[:1, :, 0], (2**30 + 1, 3))},
            ValueError,
            "at most 1073741824 samples .* 1073741825",
        ),
        ({"reduction": "float32"}, ValueError, "reduction must be 'exact' or 'float64'"),
        ({"comm": "world"}, (TypeError, ImportError), "."),
        ({"x": X[:1, :, :1]}, ValueError, "more than 1 value per channel"),
    ],
)
def test_bad_input_says_what_came_and_what_was_expected(arguments, error, text):
    with pytest.raises(error, match=text):
        F.batch_norm(**{"x": X, **arguments})


@pytest.mark.parametrize("order", ["=", "S"], ids=["native", "swapped bytes"])
def test_moments_can_not_be_changed_under_the_backward(order):
    _, moments, _ = F.batch_norm(X.astype(X.dtype.newbyteorder(order)))
    for statistic in (moments.mean, moments.var):
        with pytest.raises(ValueError, match="read-only"):
            statistic += 1


def test_a_bad_upstream_gradient_says_so():
    _, _, backward = F.batch_norm(X)
    with pytest.raises(ValueError, match=r"dy must have y's shape \(4, 3, 2\), got \(4, 3\)"):
        backward(X[:, :, 0])
    with pytest.raises(TypeError, match="dy must be a NumPy array"):
        backward(None)
