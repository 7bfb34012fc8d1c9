"""Each compiled kernel against its reference implementation."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbn import _core, reference
from syncbn._core.kernels import available, kernels, load_kernels

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
    """Run the kernel and its reference implementation; return their outputs.

    All builds and one or two threads give the same bits.
    """
    results = [run(build[name], inputs, out, threads) for build in BUILDS.values() for threads in (1, 2)]
    for other in results[1:]:
        for one, another in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, another, err_msg=name)
    return results[0], run(getattr(reference, name), inputs, out, 1)


def assert_same_bits(name, inputs, out):
    compiled, expected = both(name, inputs, out)
    for one, other in zip(compiled, expected, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    return compiled


@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_has_a_reference_implementation_of_the_same_signature(name):
    expected = list(inspect.signature(getattr(reference, name)).parameters)
    for build in BUILDS.values():
        assert list(inspect.signature(build[name]).parameters) == expected


def test_every_reference_implementation_is_compiled():
    expected = {n for n, f in vars(reference).items() if inspect.isfunction(f) and not n.startswith("_")}
    assert expected == set(NAMES)


@given(cases, st.booleans())
def test_feature_kernels_agree_with_their_reference_implementations(case, centred):
    case = Case(**case)
    x, dy = (np.ascontiguousarray(a[:, 0]) for a in (case.x, case.dy))
    rows, features = x.shape
    weight, bias = case.rng.standard_normal((2, features)).astype(x.dtype)
    out = [case.empty(2, rows), x]
    (moments, y), (expected, expected_y) = both("feature_forward", (x, weight, bias, 1e-5, centred), out)
    size = np.abs(x).max()
    np.testing.assert_allclose(moments[0], expected[0], rtol=0, atol=1e-15 * size)
    noise = (1e-15 * size) ** 2 * expected[1] ** 3  # of the variance that a mean this large leaves
    assert (np.abs(moments[1] - expected[1]) <= 1e-14 * expected[1] + noise).all()
    bound = (
        8 * np.finfo(x.dtype).eps * np.abs(expected_y).max() + 1e-14 * size * expected[1].max() * np.abs(weight).max()
    )
    np.testing.assert_allclose(y, expected_y, rtol=0, atol=bound)
    inputs = (x, dy, weight, centred, moments)
    out = [case.empty(2, min(rows, 3), features), case.empty(2, features), x]
    result, expected = both("feature_backward", inputs, out)
    deviation = np.abs(x - moments[0][:, None]).max() * moments[1].max()
    terms = 10 * max(1.0, deviation) ** 2 * max(1.0, moments[1].max())
    for one, other in zip(result, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=4 * np.finfo(x.dtype).eps * terms * rows * features)


@given(cases, st.integers(1, 4), st.sampled_from([1e-5, 0.0]))
def test_group_kernels_agree_with_their_reference_implementations(case, groups, eps):
    case["channels"] = groups * (1 + case["channels"] // 6)
    case = Case(**case)
    n, c, _ = case.x.shape
    weight, bias = case.rng.standard_normal((2, c))
    size, unit = np.abs(case.x).max(), np.finfo(case.x.dtype).eps
    results = []
    for last in (False, True):
        x, dy = (channels_last(a) if last else a for a in (case.x, case.dy))
        out = [case.empty(3, n, c), case.empty(3, n, groups), x]
        (rows, moments, y), expected = both("group_forward", (x, last, weight, bias, eps), out)
        np.testing.assert_allclose(moments[0], expected[1][0], rtol=0, atol=1e-15 * size)
        noise = (1e-15 * size) ** 2
        np.testing.assert_allclose(moments[1], expected[1][1], rtol=1e-12, atol=noise)
        invstd = np.nan_to_num(expected[1][2])
        bound = 8 * unit * np.nan_to_num(np.abs(expected[2])).max() + 1e-14 * size * invstd.max() * np.abs(weight).max()
        np.testing.assert_allclose(y, expected[2], rtol=8 * unit, atol=bound + noise * invstd.max() ** 3 * size)
        out = [case.empty(4, n, c), case.empty(2, c), x]
        gradients, expected = both("group_backward", (x, dy, last, weight, rows, moments), out)
        for one, other in zip(gradients, expected, strict=True):
            scale = np.nan_to_num(np.abs(other)).max() + invstd.max() + 1
            np.testing.assert_allclose(one, other, rtol=8 * unit, atol=1e3 * unit * scale)
        results.append([rows, moments, channels_last(y) if not last else y, gradients[0], gradients[1]])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_package_runs_on_the_reference():
    code = (
        f"import sys; sys.path[:] = {sys.path!r};"  # the package under test, which need not be in this directory
        "import numpy as np; from syncbn import functional as F; from syncbn._core.kernels import which;"
        "x = np.arange(12.0).reshape(2, 3, 2); y, m, b = F.batch_norm(x); print(which, m.var[0], b(y)[0].shape)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "SYNCBN_KERNELS": "reference"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split()[:2] == ["reference", "9.25"]


def test_kernels_are_compiled_by_default_and_others_are_refused():
    assert vars(kernels).keys() >= set(NAMES)
    with pytest.raises(ValueError, match=r"must be one of .*baseline, reference on this processor"):
        load_kernels("fast")


@pytest.mark.parametrize("in_clone", [True, False])
def test_missing_compiled_modules_are_reported(in_clone, monkeypatch, tmp_path):
    monkeypatch.setattr(_core.kernels, "_ROOT", tmp_path)
    if in_clone:
        (tmp_path / "setup.py").touch()
    with pytest.raises(ImportError, match=r"compiled modules are missing .*pip install \.`") as raised:
        _core.kernels.compiled("absent")
    assert (f"imported the sources in {tmp_path}" in str(raised.value)) == in_clone


def test_an_instruction_set_without_a_module_is_not_available(monkeypatch):
    """The compiler may not know all instruction sets of the processor."""
    fastest, *others = available()
    monkeypatch.setattr(_core.kernels, "find_spec", lambda name: None if name.endswith(fastest) else object())
    assert available() == others
