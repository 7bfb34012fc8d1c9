"""Functions take arrays of other libraries and return results in kind, with the bits of NumPy arrays."""

from __future__ import annotations

import array

import numpy as np
import pytest

from syncbn import functional as F

RNG = np.random.default_rng(0)
X, DY = (RNG.standard_normal((2, 6, 4)) * 3 + 1).astype(np.float32)
WEIGHT, BIAS, MEAN, VAR = RNG.uniform(1, 2, (4, 4)).astype(np.float32)

CALLS = {
    "batch_norm": lambda to: F.batch_norm(to(X), to(WEIGHT), to(BIAS)),
    "batch_norm, by name": lambda to: F.batch_norm(x=to(X), weight=to(WEIGHT), bias=to(BIAS), comm=None),
    "batch_norm, mask": lambda to: F.batch_norm(to(X), mask=to(np.arange(6) > 2)),
    "batch_norm, residual": lambda to: F.batch_norm(to(X), residual=to(DY), relu=True),
    "batch_norm_inference": lambda to: F.batch_norm_inference(
        to(X), to(MEAN), to(VAR), to(WEIGHT), eps=np.float64(0.1)
    ),
    "group_norm": lambda to: F.group_norm(to(X), 2, to(WEIGHT), to(BIAS)),
    "instance_norm": lambda to: F.instance_norm(to(X.reshape(2, 3, 4)), to(WEIGHT[:3])),
    "layer_norm": lambda to: F.layer_norm(to(X), 4, to(WEIGHT), to(BIAS)),
    "rms_norm": lambda to: F.rms_norm(to(X), (4,), to(WEIGHT)),
    "weight_norm": lambda to: F.weight_norm(to(X), to(X[:, :1])),
}


def import_kind(name):
    """Return a function that converts a NumPy array, and the type of results."""
    if name == "torch":
        torch = pytest.importorskip("torch", reason="pip install torch")
        return torch.from_numpy, torch.Tensor
    if name == "jax":
        jax = pytest.importorskip("jax", reason="pip install jax")
        return jax.numpy.asarray, jax.Array
    return {
        "memoryview": (memoryview, memoryview),
        "array protocol": (WithArray, np.ndarray),
        "DLPack": (DLPack, DLPack),
    }[name]


class WithArray:
    """Array of a library with nothing but ``__array__``."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._values, dtype)


class DLPack:
    """Array of a library with the array API."""

    def __init__(self, values, device=1):
        self.values, self.device = values, device

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.device, 0

    def __array_namespace__(self):
        return DLPack

    @staticmethod
    def from_dlpack(values):
        return DLPack(np.from_dlpack(values))


def to_numpy(value):
    return np.asarray(value.values if isinstance(value, DLPack) else value)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", ["torch", "jax", "memoryview", "array protocol", "DLPack"])
def test_results_in_kind(kind, name):
    convert, expected_type = import_kind(kind)
    y, *_, backward = CALLS[name](convert)
    expected, *_, expected_backward = CALLS[name](lambda values: values)
    dy = DY.reshape(expected.shape)
    found, others = backward(convert(dy)), expected_backward(dy)
    for one, other in zip((y, *found), (expected, *others), strict=True):
        if other is None:
            assert one is None
            continue
        assert isinstance(one, expected_type)
        assert to_numpy(one).dtype == other.dtype
        np.testing.assert_array_equal(to_numpy(one), other)


@pytest.mark.parametrize("kind", ["torch", "memoryview", "DLPack"])
def test_memory_is_shared(kind):
    convert, _ = import_kind(kind)
    out, dx = np.zeros_like(X), np.zeros_like(X)
    result = convert(out)
    y, _, backward = F.batch_norm(convert(X), out=result)
    assert y is result
    np.testing.assert_array_equal(out, F.batch_norm(X)[0])
    gradient = convert(dx)
    found, *_ = backward(convert(DY), out=gradient)
    assert found is gradient
    np.testing.assert_array_equal(dx, F.batch_norm(X)[2](DY)[0])


def test_lists_as_parameters():
    y, _, backward = F.batch_norm(X, WEIGHT.tolist(), bias=BIAS.tolist())
    np.testing.assert_array_equal(y, F.batch_norm(X, WEIGHT, BIAS)[0])
    assert all(isinstance(gradient, np.ndarray) for gradient in backward(DY))
    y, _ = F.batch_norm_inference(X, MEAN.tolist(), VAR.tolist())
    np.testing.assert_array_equal(y, F.batch_norm_inference(X, MEAN, VAR)[0])


def test_a_buffer_of_the_standard_library():
    y, backward = F.layer_norm(array.array("d", [1.0, 2.0, 4.0]), 3)
    np.testing.assert_array_equal(y, F.layer_norm(np.array([1.0, 2.0, 4.0]), 3)[0])
    assert isinstance(y, memoryview)
    assert isinstance(backward(memoryview(np.ones(3)))[0], memoryview)


def test_numpy_scalars_and_masked_arrays():
    assert type(F.layer_norm(X, np.int64(4), eps=np.float32(0.1))[0]) is np.ndarray
    with pytest.raises(TypeError, match="mask would be lost"):
        F.batch_norm(np.ma.array(X))


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (X.tolist(), r"got list: convert it by numpy\.asarray\(\)"),
        (DLPack(X, device=2), r"DLPack is not in the memory of the CPU"),
        (memoryview(np.ones((3, 4), int)), r"dtype float16, float32 or float64, got int64"),
    ],
)
def test_arrays_that_are_refused(x, text):
    with pytest.raises(TypeError, match=text):
        F.batch_norm(x)


def test_tensors_that_are_refused():
    torch = pytest.importorskip("torch", reason="pip install torch")
    with pytest.raises(TypeError, match=r"requires a gradient .* \.detach\(\), or use syncbn\.torch"):
        F.batch_norm(torch.ones(3, 4, requires_grad=True))
    with pytest.raises(TypeError, match=r"bfloat16, .* \.float\(\)"):
        F.batch_norm(torch.ones(3, 4, dtype=torch.bfloat16))
    with pytest.raises(TypeError, match=r"on meta: call its \.cpu\(\)"):
        F.batch_norm(torch.ones(3, 4, device="meta"))


def test_traced_arrays_are_refused():
    jax = pytest.importorskip("jax", reason="pip install jax")
    with pytest.raises(TypeError, match=r"use syncbn\.jax\.batch_norm"):
        jax.jit(lambda x: F.batch_norm(x)[0])(jax.numpy.ones((3, 4)))
