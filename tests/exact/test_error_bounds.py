"""Error bounds of y, the moments and the gradients with exact sums, against exact rationals."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exact import bounds, rational
from exact.batches import Batch, batches
from exact.values import KINDS

DTYPES = ["float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_values(dtype):
    # float64's subnormals: test_extreme_values.py
    kinds = [kind for kind in KINDS if (kind, dtype) != ("subnormal", "float64")]

    @settings(max_examples=100)
    @given(batches(3, dtype, kinds))
    def check(batch):
        bounds.assert_bounds(batch)

    check()


@pytest.mark.parametrize("dtype", DTYPES)
def test_upstream_gradients_that_cancel_or_are_huge_or_tiny(dtype):
    """dx is dy without its components along 1 and along x̂, which may be nearly all of dy."""

    @settings(max_examples=60)
    @given(
        batches(3, dtype, ["normal", "offset", "one_ulp"]),
        st.sampled_from(["constant", "parallel", "orthogonal", "huge", "tiny"]),
    )
    def check(batch, kind):
        power = {"float16": (4, -6), "float32": (36, -42), "float64": (200, -200)}[dtype]
        exact = rational.batch_norm(batch.x, batch.dy, eps=batch.eps, mask=batch.mask)
        x_hat = exact.y.astype(float)
        dy = {
            "constant": np.ones_like(x_hat) * float(batch.dy.flat[0]),
            "parallel": 3 * x_hat + 1,
            "orthogonal": exact.dx.astype(float),
            "huge": np.sign(batch.dy.astype(float)) * 10.0 ** power[0],
            "tiny": np.sign(batch.dy.astype(float)) * 10.0 ** power[1],
        }[kind]
        largest = float(np.finfo(dtype).max)
        bounds.assert_bounds(replace(batch, dy=np.clip(dy, -largest, largest).astype(dtype)))

    check()


@settings(max_examples=60)
@given(batches(3, "float16"))
def test_float16_y_is_the_correctly_rounded_one_up_to_one_ulp(batch):
    exact = rational.batch_norm(batch.x, batch.dy, batch.weight, batch.bias, batch.eps, batch.mask)
    y = bounds.F.batch_norm(batch.x, batch.weight, batch.bias, eps=batch.eps, mask=batch.mask)[0]
    with np.errstate(over="ignore"):
        rounded = exact.y.astype(float).astype(np.float16)
    assert (np.abs(ordinal(y) - ordinal(rounded)) <= 1).all()


def ordinal(y):
    """Return the position of float16 values in their order, so that neighbours differ by 1."""
    magnitude = (y.view(np.int16) & 0x7FFF).astype(int)
    return np.where(np.signbit(y), -magnitude, magnitude)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 40, 5, 7), (210, 40)])
def test_the_mean_of_small_integers_that_nearly_cancel_is_right_to_an_ulp(rng, shape, dtype):
    x = rng.integers(-3, 4, shape).astype(dtype)
    mean = bounds.F.batch_norm(x)[1].mean
    count = x.size // x.shape[1]
    for c, total in enumerate(x.astype(int).swapaxes(0, 1).reshape(x.shape[1], -1).sum(axis=1)):
        right = float(Fraction(int(total), count))
        assert abs(mean[c] - right) <= np.spacing(abs(right))


@pytest.mark.parametrize(
    ("quantity", "error"),
    [("y", 1e-6), ("mean", 1e-6), ("var", 1e-6), ("dx", 1e-5), ("dweight", 1e-5), ("dbias", 1e-5)],
)
def test_a_relative_error_exceeds_the_bounds(monkeypatch, rng, quantity, error):
    """The control: an error of any quantity is detected."""
    batch_norm = bounds.F.batch_norm

    def wrong(*arguments, **options):
        y, moments, backward = batch_norm(*arguments, **options)
        factor = {quantity: 1 + error}
        moments = replace(moments, mean=moments.mean * factor.get("mean", 1), var=moments.var * factor.get("var", 1))
        names = ("dx", "dweight", "dbias")
        return (
            (y.astype(float) * factor.get("y", 1)).astype(y.dtype),
            moments,
            lambda dy: tuple(a * np.float32(factor.get(name, 1)) for name, a in zip(names, backward(dy), strict=True)),
        )

    batch = Batch.random(rng, (6, 2, 5), "float32", ("offset", "normal"))
    bounds.assert_bounds(batch)
    monkeypatch.setattr(bounds.F, "batch_norm", wrong)
    with pytest.raises(AssertionError, match=quantity):
        bounds.assert_bounds(batch)
