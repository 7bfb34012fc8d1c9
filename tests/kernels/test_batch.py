"""Kernels of batch normalization: against the reference, block by block, and those of ranks against one process."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from exact.bits import same_bits
from hypothesis import given
from hypothesis import strategies as st

from syncbn import reference
from syncbn._core.kernels import available, load_kernels

BUILDS = [vars(load_kernels(which)) for which in available()]

ROUNDING = {np.float32: 4e-7, np.float64: 1e-14}
"""Error of y, relative to the largest value: the reference computes in float64."""

cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "shape": st.tuples(st.integers(1, 5), st.integers(1, 150), st.integers(1, 40)),
        "dtype": st.sampled_from([np.float32, np.float64]),
        "last": st.booleans(),
        "masked": st.booleans(),
        "affine": st.booleans(),
        "exact": st.booleans(),
        "residual": st.booleans(),
        "relu": st.booleans(),
        "constant": st.booleans(),
        "offset": st.sampled_from([0.0, -1e7, 1e13]),
        "eps": st.sampled_from([1e-5, 0.0]),
    }
)


def run(kernel, inputs, outputs, threads, block):
    """Return the outputs of a call; ``block`` replaces the parameter of that name."""
    names = list(inspect.signature(reference.__dict__[kernel.__name__]).parameters)
    arguments = list(inputs)
    if "block" in names:
        arguments.insert(names.index("block"), block)
    outputs = [None if a is None else np.full_like(a, 7) for a in outputs]
    kernel(*arguments, *outputs, threads)
    return outputs


def all_builds(name, inputs, outputs):
    """Return the outputs that all builds, blocks and thread counts agree on, and those of the reference."""
    results = [
        run(build[name], inputs, outputs, threads, block)
        for build in BUILDS
        for threads, block in ((1, 0), (1, 256), (1, 1), (2, 7))
    ]
    for other in results[1:]:
        for one, another in zip(results[0], other, strict=True):
            assert one is another is None or same_bits(one, another), name
    return results[0], run(getattr(reference, name), inputs, outputs, 1, 0)


@given(cases)
def test_one_call_for_each_pass_has_the_results_of_the_reference_implementation(case):
    rng = np.random.default_rng(case["seed"])
    n, c, s = case["shape"]
    dtype, last, exact = case["dtype"], case["last"], case["exact"]
    shape = (n, s, c) if last else (n, c, s)
    x = (rng.standard_normal(shape) + case["offset"]).astype(dtype)
    dy, residual = rng.standard_normal((2, *shape)).astype(dtype)
    mask = None
    if case["masked"]:
        mask = (rng.random((n, s)) < 0.5).astype(np.uint8)
        mask[0, 0] = 1
    counts = mask.sum(axis=1).astype(float) if case["masked"] else np.full(n, float(s))
    count = int(counts.sum())
    weight, bias = rng.standard_normal((2, c)) if case["affine"] else (None, None)
    added = residual if case["residual"] else None
    columns = exact and last and s == 1

    inputs = (x, last, mask, counts, count, weight, bias, case["eps"], exact, added, case["relu"])
    outputs = [None if columns else np.empty((3, n, c)), np.empty((5, c)), x]
    (rows, moments, y), (expected_rows, expected_moments, expected_y) = all_builds("batch_forward", inputs, outputs)
    np.testing.assert_array_equal(rows, expected_rows)
    if exact:
        np.testing.assert_allclose(moments[0], expected_moments[0], rtol=0, atol=4e-16 * np.abs(x).max())
        np.testing.assert_allclose(moments[1:], expected_moments[1:], rtol=4e-15)
        close = {"rtol": 0, "atol": ROUNDING[dtype] * (np.abs(expected_y).max() + np.abs(residual).max())}
    else:
        np.testing.assert_allclose(moments[0], expected_moments[0], rtol=1e-14, atol=1e-14 * abs(x).max())
        np.testing.assert_allclose(moments[1], expected_moments[1], rtol=1e-12, atol=2.0**-74 * abs(x).max() ** 2)
        close = None  # small differences of a small variance may be large in y
    if close is not None:
        np.testing.assert_allclose(y, expected_y, **close)
    np.testing.assert_array_equal(moments[3], moments[2] if weight is None else weight * moments[2])
    np.testing.assert_array_equal(moments[4], 0 if bias is None else bias)

    relu = case["relu"]
    statistics = (moments[0].copy(), moments[1] + 0.5)
    inputs = (x, last, *statistics, weight, bias, case["eps"], added, relu)
    result, expected = all_builds("batch_inference", inputs, [np.empty((5, c)), x])
    np.testing.assert_array_equal(result[0], expected[0])
    atol = ROUNDING[dtype] * (np.abs(expected[1]).max() + np.abs(residual).max())
    np.testing.assert_allclose(result[1], expected[1], rtol=0, atol=atol)

    count = 0 if case["constant"] else count
    inputs = (x, dy, last, mask, count, moments, exact, y if relu else None)
    outputs = [None if columns else np.empty((2, n, c)), np.empty((4, c)), dy if relu and case["residual"] else None, x]
    result, expected = all_builds("batch_backward", inputs, outputs)
    np.testing.assert_array_equal(result[0], expected[0])
    if exact:
        np.testing.assert_array_equal(result[1], expected[1])
    else:
        np.testing.assert_allclose(result[1], expected[1], rtol=1e-12, atol=1e-12 * np.abs(expected[1]).max())
    np.testing.assert_array_equal(result[2], expected[2])
    scale = np.abs(expected[3]).max() + np.abs(moments[3]).max() * np.abs(dy).max()
    np.testing.assert_allclose(result[3], expected[3], rtol=0, atol=8 * np.finfo(dtype).eps * scale)


@given(cases)
def test_the_kernels_of_ranks_have_the_bits_of_the_reference_implementation_and_of_one_process(case):
    rng = np.random.default_rng(case["seed"])
    n, c, s = case["shape"]
    dtype, last, exact, relu = case["dtype"], case["last"], case["exact"], case["relu"]
    shape = (n, s, c) if last else (n, c, s)
    x = (rng.standard_normal(shape) + case["offset"]).astype(dtype)
    dy, residual = rng.standard_normal((2, *shape)).astype(dtype)
    added = residual if case["residual"] else None
    mask = None
    if case["masked"]:
        mask = (rng.random((n, s)) < 0.5).astype(np.uint8)
        mask[0, 0] = 1
    counts = mask.sum(axis=1).astype(float) if case["masked"] else np.full(n, float(s))
    count = int(counts.sum())
    weight, bias = rng.standard_normal((2, c)) if case["affine"] else (None, None)
    columns = exact and last and s == 1

    out = [None if columns else np.empty((3, n, c)), np.empty(1 + 2 * c) if exact else None]
    (rows, ranges), expected = all_builds("rank_ranges", (x, last, mask, counts), out)
    np.testing.assert_array_equal(ranges, expected[1])
    np.testing.assert_array_equal(rows, expected[0])
    out = [np.empty((4, c), np.int64) if exact else None, None if exact else np.empty((4, c))]
    limbs, expected = all_builds("rank_sums", (x, last, mask, counts, rows, ranges), out)
    np.testing.assert_array_equal(limbs[0], expected[0])
    inputs = (x, last, count, ranges, *limbs, weight, bias, case["eps"], added, relu)
    (moments, y), expected = all_builds("rank_normalize", inputs, [np.empty((5, c)), x])
    if exact:
        np.testing.assert_allclose(moments[1:], expected[0][1:], rtol=4e-15)
    alone = (x, last, mask, counts, count, weight, bias, case["eps"], exact, added, relu)
    out = [None if columns else np.empty((3, n, c)), np.empty((5, c)), x]
    one = run(BUILDS[0]["batch_forward"], alone, out, 1, 0)
    np.testing.assert_array_equal(moments, one[1])
    np.testing.assert_array_equal(y, one[2])

    result = y if relu else None
    out = [dy if relu else None, None if columns else np.empty((2, n, c)), np.empty((2, c)) if exact else None]
    (g, rows, absmax), expected = all_builds("rank_gradient_ranges", (x, dy, last, moments, result), out)
    for part, other in zip((g, rows, absmax), expected, strict=True):
        np.testing.assert_array_equal(part, other)
    g = g if relu else dy
    out = [np.empty((4, c), np.int64) if exact else None, None if exact else np.empty((2, c))]
    limbs, expected = all_builds("rank_gradient_sums", (x, g, last, moments, rows, absmax), out)
    np.testing.assert_array_equal(limbs[0], expected[0])
    limbs = [None if part is None else np.stack([part, part]) for part in limbs]
    inputs = (x, g, last, mask, count, moments, absmax, *limbs, case["constant"])
    (gradients, dx), expected = all_builds("rank_input_gradient", inputs, [np.empty((4, c)), x])
    np.testing.assert_array_equal(gradients, expected[0])
    alone = (x, dy, last, mask, count, moments, exact, result)
    out = [None if columns else np.empty((2, n, c)), np.empty((4, c)), dy if relu else None, x]
    one = run(BUILDS[0]["batch_backward"], alone, out, 1, 0)
    np.testing.assert_array_equal(gradients, one[1])
    np.testing.assert_array_equal(dx, one[3])


@pytest.mark.parametrize("last", [False, True])
def test_more_channels_than_a_block_and_more_samples_than_a_sum(last, rng):
    """300 channels; 5,000 samples of one value, more than one block of exact sums."""
    x = rng.standard_normal((5000, 1, 300) if last else (5000, 300, 1)) * rng.integers(1, 1000, 300).reshape(
        (1, 1, 300) if last else (1, 300, 1)
    )
    inputs = (x, last, None, np.ones(5000), 5000, None, None, 0.0, True, None, False)
    rows = None if last else np.empty((3, 5000, 300))
    (_, moments, _), _ = all_builds("batch_forward", inputs, [rows, np.empty((5, 300)), x])
    values = x.reshape(5000, 300)
    np.testing.assert_allclose(moments[1], values.var(axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments[0], values.mean(axis=0), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_of_equal_values_are_added_without_rounding(dtype, rng):
    """The remainders after the leading bits of 40,000 equal squares add up to more than float64 holds in one block."""
    x = np.empty((40_000, 1, 8), dtype)
    x[:] = rng.uniform(0.5, 1, 8)
    x[:2] = [[[-1.0]], [[1.0]]]
    range_w = np.empty(17)
    (_, range_w), _ = all_builds("rank_ranges", (x, True, None, np.ones(40_000)), [None, range_w])
    inputs = (x, True, None, np.ones(40_000), None, range_w)
    (limbs, _), (expected, _) = all_builds("rank_sums", inputs, [np.empty((4, 8), np.int64), None])
    np.testing.assert_array_equal(limbs, expected)
    moments = np.zeros((5, 8))
    outputs = [None, None, np.empty((2, 8))]
    (_, _, absmax), _ = all_builds("rank_gradient_ranges", (x, x, True, moments, None), outputs)
    (limbs, _), (expected, _) = all_builds(
        "rank_gradient_sums", (x, x, True, moments, None, absmax), [np.empty((4, 8), np.int64), None]
    )
    np.testing.assert_array_equal(limbs, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponents", [(-3, 3), (-120, -80), (-149, -120), (60, 100), (-149, 100)])
@pytest.mark.parametrize("mean", [0.0, 0.1, 1e5 + 0.1])
def test_the_range_of_products_of_columns_is_that_of_its_parts(dtype, exponents, mean, rng):
    """Float32 holds some of the products only."""
    factors = np.exp2(rng.integers(*exponents, (60, 1, 20)), dtype=np.float64)
    dy = (rng.standard_normal((60, 1, 20)) * factors).astype(dtype)
    x = (rng.standard_normal((60, 1, 20)) * np.exp2(rng.integers(-60, 27, (60, 1, 1))) + mean).astype(dtype)
    moments = np.zeros((5, 20))
    moments[0] = mean
    moments[0, :5] = x[0, 0, :5]
    products = np.abs(dy * (x - moments[0])).max(axis=(0, 1))

    def found(samples):
        inputs = (x[samples], dy[samples], True, moments, None)
        (_, _, absmax), expected = all_builds("rank_gradient_ranges", inputs, [None, None, np.empty((2, 20))])
        np.testing.assert_array_equal(absmax, expected[2])
        return absmax

    whole = found(slice(None))
    np.testing.assert_array_equal(whole[0], np.abs(dy).max(axis=(0, 1)))
    assert (whole[1] >= products * (1 - 1e-6)).all()
    assert (whole[1] <= products * (3 + 1e-6)).all()
    for cut in (1, 7, 30, 59):
        np.testing.assert_array_equal(whole, np.maximum(found(slice(cut)), found(slice(cut, None))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [3, 64, 70, 300, 1040])
@pytest.mark.parametrize("size", [63, 64, 79, 200])
def test_long_rows_have_the_bits_of_the_reference_implementation_in_both_memory_orders(dtype, channels, size, rng):
    """Rows of four values a lane and more, which channels-last memory adds up together."""
    x, dy = (rng.standard_normal((2, 3, channels, size)) + 5).astype(dtype)
    found = []
    for last in (False, True):
        values, gradients = (np.ascontiguousarray(a.swapaxes(1, 2)) if last else a for a in (x, dy))
        inputs = (values, last, None, np.full(3, float(size)), 3 * size, None, None, 1e-5, True, None, False)
        outputs = [np.empty((3, 3, channels)), np.empty((5, channels)), values]
        (rows, moments, y), expected = all_builds("batch_forward", inputs, outputs)
        np.testing.assert_array_equal(rows, expected[0])
        outputs = [np.empty((2, 3, channels)), np.empty((4, channels)), None, values]
        inputs = (values, gradients, last, None, 3 * size, moments, True, None)
        (sums, factors, _, dx), expected = all_builds("batch_backward", inputs, outputs)
        np.testing.assert_array_equal(sums, expected[0])
        found.append([rows, moments, sums, factors, *(a.swapaxes(1, 2) if last else a for a in (y, dx))])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_range_of_a_gradient_is_a_bound_where_the_mean_is_subnormal(rng):
    """float32 rounds μ by up to half of the least subnormal, which is as large as the deviations here."""
    least = float(np.finfo(np.float32).smallest_subnormal)
    x = (rng.integers(0, 3, (200, 1, 40)) * least).astype(np.float32)
    dy = (rng.standard_normal(x.shape) * 1e30).astype(np.float32)
    moments = np.ones((5, 40))
    moments[0] = x.mean(axis=0, dtype=np.float64)[0]
    inputs = (x, dy, True, moments, None)
    (_, _, absmax), (*_, expected) = all_builds("rank_gradient_ranges", inputs, [None, None, np.empty((2, 40))])
    np.testing.assert_array_equal(absmax, expected)
    exact = np.abs(dy.astype(np.float64) * (x - moments[0])).max(axis=(0, 1))
    assert (absmax[1] >= exact).all()
