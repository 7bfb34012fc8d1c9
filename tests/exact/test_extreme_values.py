"""Values at the limits of dtypes and of exact sums, in one process."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from exact import rational
from exact.batches import Batch
from exact.bounds import assert_bounds
from syncbn import BatchNorm
from syncbn import functional as F

LARGEST = {"float16": 65504.0, "float32": float(np.finfo(np.float32).max), "float64": 1e153}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_a_constant_channel_has_variance_0_and_y_is_the_bias(rng, dtype, eps):
    values = [0.0, -0.0, 1.0, 0.1, -1e3, 1e-7, float(np.finfo(dtype).tiny), LARGEST[dtype]]
    values += [1e7, -1e30, 3e38] if dtype != "float16" else []
    values = [value for value in values if dtype != "float64" or eps or value == 0 or abs(value) > 1e-130]
    x = np.broadcast_to(np.array(values, dtype)[:, None], (5, len(values), 33)).copy()
    weight, bias = rng.standard_normal((2, len(values))).astype(dtype)
    y, moments, backward = F.batch_norm(x, weight, bias, eps=eps)
    np.testing.assert_array_equal(moments.mean, x[0, :, 0])
    np.testing.assert_array_equal(moments.var, 0)
    np.testing.assert_array_equal(y, np.broadcast_to(bias[:, None], y.shape))
    if eps == 0:
        np.testing.assert_array_equal(backward(rng.standard_normal(x.shape).astype(dtype))[0], 0)
    x[3, :, 17] = np.nextafter(x[3, :, 17], np.array(0.5, dtype))  # the control: one ulp in one value
    assert (F.batch_norm(x, weight, bias, eps=eps)[1].var > 0)[2:6].all()


@pytest.mark.parametrize(
    ("dtype", "scale"), [("float16", 2e4), ("float32", 1e30), ("float32", 1e38), ("float64", 1e100)]
)
@pytest.mark.parametrize("shape", [(40, 2), (3, 2, 70)])
def test_values_near_the_largest(rng, dtype, scale, shape):
    batch = Batch.random(rng, shape, dtype)
    x = np.clip(batch.x.astype(float), -3, 3) * scale
    x.flat[:2] = LARGEST[dtype] if dtype != "float64" else 9e100
    batch = Batch(x.astype(dtype), batch.dy, batch.weight, batch.bias, None, 1e-5)
    assert_bounds(batch)


@pytest.mark.parametrize("scale", [1e110, 1e150])
def test_dx_of_large_float64_values(rng, scale):
    batch = Batch.random(rng, (8, 2, 3), "float64")
    assert_bounds(Batch(batch.x * scale, batch.dy, None, None, None, 1e-5))


@pytest.mark.parametrize("scale", [1e-110, 1e-140])
def test_dx_of_small_float64_values_without_eps(rng, scale):
    batch = Batch.random(rng, (8, 2, 3), "float64")
    assert_bounds(Batch(batch.x * scale, batch.dy, None, None, None, 0.0))


def y_is_right_or_not_finite(rng, scale, eps, reduction):
    """Return whether y of every channel is within the error bound or has no finite value."""
    x = rng.standard_normal((8, 4, 3)) * scale
    exact = rational.batch_norm(x, x, eps=eps)
    y, _, _ = F.batch_norm(x, eps=eps, reduction=reduction)
    close = rational.error(y, exact.y) <= 1e-14 * rational.largest(exact.y)
    return (close | ~np.isfinite(y).any(axis=(0, 2))).all()


@pytest.mark.parametrize(
    ("reduction", "scale", "eps"),
    [
        *[(reduction, scale, 1e-5) for reduction in ("exact", "float64") for scale in (1e-170, 1e-155, 1e150, 1e200)],
        *[(reduction, scale, 0.0) for reduction in ("exact", "float64") for scale in (1e-150, 1e150, 1e200, 1e300)],
        ("exact", 1e-170, 0.0),
        ("exact", 1e-158, 0.0),
        ("exact", 1e-161, 0.0),
        ("float64", 1e-158, 0.0),
        ("float64", 1e-170, 0.0),
    ],
)
def test_a_variance_that_float64_cannot_hold_gives_the_right_y_or_nothing_finite(rng, reduction, scale, eps):
    assert y_is_right_or_not_finite(rng, scale, eps, reduction)


def long_row(rng, length, first):
    x = rng.standard_normal((2, 1, length))
    x[0, 0, 0] = first
    return x


@pytest.mark.parametrize("first", [1e6, 1e20])
def test_an_outlier_that_is_a_row_s_first_value(rng, first):
    x = long_row(rng, 500, first).astype(np.float32)
    assert_bounds(Batch(x, x.copy(), None, None, None, 1e-5))
    assert_bounds(Batch(long_row(rng, 16, first), long_row(rng, 16, 1.0), None, None, None, 1e-5))


def test_an_outlier_that_is_a_long_float64_row_s_first_value(rng):
    assert_bounds(Batch(long_row(rng, 2000, 1e20), long_row(rng, 2000, 1.0), None, None, None, 1e-5))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_more_than_2_to_the_24_values_per_channel(dtype):
    """float32 cannot count beyond 2²⁴. The values of x are 1 and 3, with one more 3 than 1 in each row."""
    x = np.ones((4099, 1, 4099), dtype)
    x[:, :, ::2] = 3
    y, moments, _ = F.batch_norm(x, eps=0.0)
    ones, threes = 4099 * 2049, 4099 * 2050
    mean = Fraction(ones + 3 * threes, ones + threes)
    var = Fraction(ones + 9 * threes, ones + threes) - mean**2
    assert moments.count == x.size > 2**24
    assert moments.mean[0] == float(mean)
    assert abs(moments.var[0] - float(var)) <= 1e-7 * float(var)
    assert abs(float(y[0, 0, 0]) - float(3 - mean) / float(var) ** 0.5) <= np.finfo(dtype).eps
    assert np.add.accumulate(x.ravel()[: 2**24 + 2], dtype=np.float32)[-1] != x.ravel()[: 2**24 + 2].sum(dtype=float)


@pytest.mark.parametrize("std", [1e-6, 1e-12, 1e-18])
def test_a_variance_far_below_eps_keeps_its_digits_in_the_running_variance(rng, std):
    x = (rng.standard_normal((16, 3, 5)) * std).astype(np.float32)
    layer = BatchNorm(3, momentum=1.0)
    layer(x)
    exact = x.astype(np.longdouble).var(axis=(0, 2), ddof=1)
    np.testing.assert_allclose(layer.running_var, exact.astype(float), rtol=2e-7)
    from_invstd = (1 / np.sqrt(exact + 1e-5)).astype(np.float32) ** -2.0 - np.float32(1e-5)
    assert not np.allclose(from_invstd, exact.astype(float), rtol=1e-3, atol=0)  # the control


@pytest.mark.parametrize("value", [5e-324, 1e-310, -1e-310])
@pytest.mark.parametrize("shape", [(7, 3), (2, 3, 5)])
def test_the_mean_of_equal_subnormals_is_that_value(shape, value):
    moments = F.batch_norm(np.full(shape, value))[1]
    assert (moments.mean == value).all()
    assert (moments.var == 0).all()
