"""Each compiled kernel against its readable twin."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbn import reference
from syncbn._dispatch.kernels import available, kernels, load_kernels

BUILDS = {which: vars(load_kernels(which)) for which in available()}
NAMES = sorted(name for name, kernel in BUILDS["baseline"].items() if callable(kernel))

cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "samples": st.integers(1, 5),
        "channels": st.integers(1, 19),
        "row": st.integers(1, 40),
        "dtype": st.sampled_from([np.float32, np.float64]),
        "masked": st.booleans(),
        "offset": st.sampled_from([0.0, 1.0, -1e7, 1e13]),
        "scale": st.sampled_from([1.0, 1e-20, 1e18, 0.0]),
    }
)


class Case:
    """Random arrays of one shape in both memory orders."""

    def __init__(self, seed, samples, channels, row, dtype, masked, offset, scale):
        rng = np.random.default_rng(seed)
        shape = (samples, channels, row)
        self.x = (rng.standard_normal(shape) * scale + offset).astype(dtype)
        self.dy = rng.standard_normal(shape).astype(dtype)
        self.mask = (rng.random((samples, row)) < 0.5).astype(np.uint8) if masked else np.zeros((0, 0), np.uint8)
        self.counts = self.mask.sum(axis=1).astype(float) if masked else np.full(samples, float(row))
        factors = rng.standard_normal((6, samples if rng.random() < 0.5 else 1, channels))
        self.factors = [np.ascontiguousarray(factor) for factor in factors]
        self.rng = rng

    def empty(self, *shape, dtype=np.float64):
        return np.empty(shape, dtype)


def channels_last(a_ncs):
    return np.ascontiguousarray(a_ncs.swapaxes(1, 2))


def run(kernel, inputs, out, threads):
    outputs = [np.full_like(a, 7) for a in out]
    takes_threads = "threads" in inspect.signature(kernel).parameters
    kernel(*inputs, *outputs, *[threads] * takes_threads)
    return outputs


def both(name, inputs, out):
    """Run the kernel and its twin; return their outputs. All builds and one or two threads give the same bits."""
    results = [run(build[name], inputs, out, threads) for build in BUILDS.values() for threads in (1, 2)]
    for other in results[1:]:
        for one, another in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, another, err_msg=name)
    return results[0], run(getattr(reference, name), inputs, out, 1)


def assert_same_bits(name, inputs, out):
    compiled, twin = both(name, inputs, out)
    for one, other in zip(compiled, twin, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    return compiled


@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_has_a_twin_of_the_same_signature(name):
    twin = list(inspect.signature(getattr(reference, name)).parameters)
    for build in BUILDS.values():
        assert list(inspect.signature(build[name]).parameters) == twin


def test_every_twin_is_compiled():
    twins = {n for n, f in vars(reference).items() if inspect.isfunction(f) and not n.startswith("_")}
    assert twins == set(NAMES)


@given(cases)
def test_row_sums_have_the_twin_s_bits_in_both_memory_orders(case):
    case = Case(**case)
    n, c, _ = case.x.shape
    rows = [case.empty(n, c) for _ in range(3)]
    first = assert_same_bits("moment_rows_ncs", (case.x, case.mask), rows)
    last = assert_same_bits("moment_rows_nsc", (channels_last(case.x), case.mask), rows)
    np.testing.assert_array_equal(first, last)
    mean = case.factors[0]
    first = assert_same_bits("gradient_rows_ncs", (case.x, case.dy, mean), rows[:2])
    last = assert_same_bits("gradient_rows_nsc", (channels_last(case.x), channels_last(case.dy), mean), rows[:2])
    np.testing.assert_array_equal(first, last)


def assert_same_moments(case, counts, ranges, words):
    count = int(counts.sum())
    for eps in (1e-5, 0.0) if count else ():
        out = [case.empty(words.shape[1]) for _ in range(3)]
        (mean, var, invstd), twins = both("moments_from_sums", (words, ranges, count, eps), out)
        for value, twin in zip((mean, var, invstd), twins, strict=True):
            np.testing.assert_allclose(value, twin, rtol=4e-15, atol=0)
        np.testing.assert_array_equal(var == 0, twins[1] == 0)


@given(cases)
def test_exact_sums_have_the_twin_s_bits(case):
    case = Case(**case)
    n, c, _ = case.x.shape
    rows, _ = both("moment_rows_ncs", (case.x, case.mask), [case.empty(n, c) for _ in range(3)])
    (ranges,) = assert_same_bits("moment_ranges", (*rows, case.counts), [case.empty(1 + 2 * c)])
    words_4c = case.empty(4, c, dtype=np.int64)
    (words,) = assert_same_bits("moment_sums", (*rows, case.counts, ranges), [words_4c])
    assert_same_moments(case, case.counts, ranges, words)
    sums, products = case.factors[1:3]
    (largest,) = assert_same_bits("largest_gradients", (sums, products), [case.empty(2, c)])
    (words,) = assert_same_bits("gradient_sums", (sums, products, largest), [words_4c])
    assert_same_bits("totals_from_sums", (np.stack([words, 3 * words]), largest), [case.empty(2, 2, c)])


@given(cases)
def test_exact_sums_over_columns_have_the_twin_s_bits(case):
    case = Case(**case)
    x, dy = (np.ascontiguousarray(a.swapaxes(1, 2).reshape(-1, a.shape[1])) for a in (case.x, case.dy))
    n, c = x.shape
    mask = case.mask.ravel()
    (ranges,) = assert_same_bits("moment_ranges_columns", (x, mask), [case.empty(1 + 2 * c)])
    words_4c = case.empty(4, c, dtype=np.int64)
    (words,) = assert_same_bits("moment_sums_columns", (x, mask, ranges), [words_4c])
    assert_same_moments(case, mask if mask.size else np.ones(n), ranges, words)
    mean = case.factors[0][0]
    (largest,) = assert_same_bits("largest_gradients_columns", (x, dy, mean), [case.empty(2, c)])
    assert_same_bits("gradient_sums_columns", (x, dy, mean, largest), [words_4c])


@pytest.mark.parametrize("channels", [1, 127, 300])
def test_many_rows_and_many_channels(channels, rng):
    """More rows than one block of exact sums, more channels than a thread takes at once."""
    x = rng.standard_normal((5000, channels)) * rng.integers(1, 1000, channels)
    mask = rng.random(5000) < 0.9
    (ranges,) = assert_same_bits("moment_ranges_columns", (x, mask.view(np.uint8)), [np.empty(1 + 2 * channels)])
    out = [np.empty((4, channels), np.int64)]
    (words,) = assert_same_bits("moment_sums_columns", (x, mask.view(np.uint8), ranges), out)
    mean, var, invstd = np.empty((3, channels))
    kernels.moments_from_sums(words, ranges, int(mask.sum()), 0.0, mean, var, invstd)
    np.testing.assert_allclose(var, x[mask].var(axis=0), rtol=1e-13)
    np.testing.assert_allclose(mean, x[mask].mean(axis=0), rtol=1e-11, atol=1e-12)


@given(cases)
def test_float64_sums_agree_with_the_twin(case):
    case = Case(**case)
    n, c, _ = case.x.shape
    rows, _ = both("moment_rows_ncs", (case.x, case.mask), [case.empty(n, c) for _ in range(3)])
    words, twin_words = both("moment_sums_float64", (*rows, case.counts), [case.empty(4, c)])
    count = case.counts.sum()
    if not count:
        np.testing.assert_array_equal(words[0], 0)
        return
    out = [case.empty(c) for _ in range(3)]
    (mean, var, invstd), _ = both("moments_from_sums_float64", (words[0], count, 1e-5), out)
    _, (mean2, var2, invstd2) = both("moments_from_sums_float64", (twin_words[0], count, 1e-5), out)
    noise = 2.0**-74 * (mean2**2 + var2)
    assert (np.abs(mean - mean2) <= 1e-15 * np.sqrt(mean2**2 + var2)).all()
    assert (np.abs(var - var2) <= 1e-13 * var2 + noise).all()
    assert (np.abs(invstd - invstd2) <= 1e-13 * invstd2 + noise * invstd2**3).all()


@given(cases)
def test_elementwise_kernels_agree_with_their_twins(case):
    case = Case(**case)
    mean, scale, shift, slope, _, _ = case.factors
    bias = case.factors[4][0]
    dtype = case.x.dtype
    tolerance = {"rtol": 4 * np.finfo(dtype).eps, "atol": 4 * np.finfo(dtype).eps * np.abs(case.x).max()}
    none = np.empty((0, 0, 0), dtype)
    (g,) = assert_same_bits("relu_gradients", (case.x, case.dy), [case.x])
    np.testing.assert_array_equal(g, np.where(case.x > 0, case.dy, 0))
    for name, inputs in (
        ("normalize", (case.x, mean, scale, bias, none, False)),
        ("normalize", (case.x, mean, scale, bias, none, True)),
        ("normalize", (case.x, mean, scale, bias, case.dy, False)),
        ("normalize", (case.x, mean, scale, bias, case.dy, True)),
        ("input_gradient", (case.x, case.dy, case.mask, mean, scale, shift, slope)),
    ):
        last = [channels_last(a) if isinstance(a, np.ndarray) and a.ndim == 3 else a for a in inputs]
        (one,), (twin,) = both(f"{name}_ncs", inputs, [case.x])
        (other,), (twin_last,) = both(f"{name}_nsc", last, [channels_last(case.x)])
        np.testing.assert_allclose(one, twin, **tolerance)
        np.testing.assert_array_equal(channels_last(one), other, err_msg=name)
        np.testing.assert_array_equal(channels_last(twin), twin_last, err_msg=name)


@given(cases, st.booleans())
def test_feature_kernels_agree_with_their_twins(case, centred):
    case = Case(**case)
    x, dy = (np.ascontiguousarray(a[:, 0]) for a in (case.x, case.dy))
    rows, features = x.shape
    weight, bias = case.rng.standard_normal((2, features))
    out = [case.empty(2, rows), x]
    (moments, y), (twin, twin_y) = both("feature_forward", (x, weight, bias, 1e-5, centred), out)
    size = np.abs(x).max()
    np.testing.assert_allclose(moments[0], twin[0], rtol=0, atol=1e-15 * size)
    noise = (1e-15 * size) ** 2 * twin[1] ** 3  # of the variance that a mean this large leaves
    assert (np.abs(moments[1] - twin[1]) <= 1e-14 * twin[1] + noise).all()
    bound = 8 * np.finfo(x.dtype).eps * np.abs(twin_y).max() + 1e-14 * size * twin[1].max() * np.abs(weight).max()
    np.testing.assert_allclose(y, twin_y, rtol=0, atol=bound)
    inputs = (x, dy, weight, centred, moments)
    out = [case.empty(2, min(rows, 3), features), case.empty(2, features), x]
    result, twins = both("feature_backward", inputs, out)
    deviation = np.abs(x - moments[0][:, None]).max() * moments[1].max()
    terms = 10 * max(1.0, deviation) ** 2 * max(1.0, moments[1].max())
    for one, other, eps in zip(result, twins, (2.0**-52, 2.0**-52, np.finfo(x.dtype).eps), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=4 * eps * terms * rows * features)


@given(cases, st.integers(1, 4), st.sampled_from([1e-5, 0.0]))
def test_group_kernels_agree_with_their_twins(case, groups, eps):
    case["channels"] = groups * (1 + case["channels"] // 6)
    case = Case(**case)
    n, c, _ = case.x.shape
    weight, bias = case.rng.standard_normal((2, c))
    size, unit = np.abs(case.x).max(), np.finfo(case.x.dtype).eps
    results = []
    for last in (False, True):
        x, dy = (channels_last(a) if last else a for a in (case.x, case.dy))
        out = [case.empty(3, n, c), case.empty(3, n, groups), x]
        (rows, moments, y), twins = both("group_forward", (x, last, weight, bias, eps), out)
        np.testing.assert_allclose(moments[0], twins[1][0], rtol=0, atol=1e-15 * size)
        noise = (1e-15 * size) ** 2
        np.testing.assert_allclose(moments[1], twins[1][1], rtol=1e-12, atol=noise)
        invstd = np.nan_to_num(twins[1][2])
        bound = 8 * unit * np.nan_to_num(np.abs(twins[2])).max() + 1e-14 * size * invstd.max() * np.abs(weight).max()
        np.testing.assert_allclose(y, twins[2], rtol=1e-6, atol=bound + noise * invstd.max() ** 3 * size)
        out = [case.empty(4, n, c), case.empty(2, c), x]
        gradients, twins = both("group_backward", (x, dy, last, weight, rows, moments), out)
        for one, other in zip(gradients, twins, strict=True):
            scale = np.nan_to_num(np.abs(other)).max() + invstd.max() + 1
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e3 * unit * scale)
        results.append([rows, moments, channels_last(y) if not last else y, gradients[0], gradients[1]])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_package_runs_on_the_reference():
    code = (
        "import numpy as np; from syncbn import functional as F; from syncbn._dispatch.kernels import which;"
        "x = np.arange(12.0).reshape(2, 3, 2); y, m, b = F.batch_norm(x); print(which, m.var[0], b(y)[0].shape)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"SYNCBN_KERNELS": "reference", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split()[:2] == ["reference", "9.25"]


def test_kernels_are_compiled_by_default_and_others_are_refused():
    assert vars(kernels).keys() >= set(NAMES)
    with pytest.raises(ValueError, match=r"must be one of .*baseline, reference on this processor"):
        load_kernels("fast")
