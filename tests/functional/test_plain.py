"""The short way of plain arrays beside the general way: the same bits, and nothing but plain arrays."""

from __future__ import annotations

import copy
import threading
import weakref

import numpy as np
import pytest

from syncbn import functional as F
from syncbn._core import plain
from syncbn._core.kernels import which

pytestmark = pytest.mark.skipif(which == "reference", reason="kernels are their twins, which have no short way")

LAYOUTS = {
    "dense": ((6, 5), 1, lambda x: x),
    "one sample": ((1, 3, 8), 1, lambda x: x),
    "channels first": ((3, 4, 5, 2), 1, lambda x: x),
    "channels-last memory": ((3, 4, 5, 2), 1, lambda x: np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)),
    "channels-last axis": ((3, 5, 2, 4), -1, lambda x: x),
    "channel axis 0": ((4, 3, 5), 0, lambda x: np.moveaxis(np.moveaxis(x, 0, 1).copy(), 1, 0)),
    "one value a row": ((7, 4, 1, 1), 1, lambda x: x),
    "one channel": ((7, 1, 3), 1, lambda x: x),
}


def batch(x, weight, bias, axis, reduction="exact"):
    y, moments, backward = F.batch_norm(x, weight, bias, channel_axis=axis, reduction=reduction)
    return [y, moments.count, moments.mean, moments.var], backward


def batch_float64(x, weight, bias, axis):
    return batch(x, weight, bias, axis, "float64")


def inference(x, weight, bias, axis):
    y, backward = F.batch_norm_inference(x, np.arange(len(weight)) * 0.3, 1.5 + weight, weight, bias, channel_axis=axis)
    return [y], backward


def group(x, weight, bias, axis):
    y, backward = F.group_norm(x, 1, weight, bias, channel_axis=axis)
    return [y], backward


def instance(x, weight, bias, axis):
    y, backward = F.instance_norm(x, weight, bias, channel_axis=axis)
    return [y], backward


def layer(x, weight, bias, axis):  # noqa: ARG001
    trailing = x.shape[1:]
    shaped = (np.resize(p, trailing) for p in (weight, bias))
    y, backward = F.layer_norm(x, trailing if len(trailing) > 1 else trailing[0], *shaped)
    return [y], backward


def rms(x, weight, bias, axis):  # noqa: ARG001
    y, backward = F.rms_norm(x, x.shape[1:], np.resize(weight, x.shape[1:]))
    return [y], backward


KINDS = {
    "batch": {"batch": batch, "batch, float64": batch_float64, "inference": inference},
    "groups": {"group": group, "instance": instance},
    "features": {"layer": layer, "rms": rms},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("kind", "run"), [(kind, run) for kind, runs in KINDS.items() for run in runs])
def test_both_ways_give_the_same_bits_dtypes_and_memory_order(kind, run, layout, dtype, rng, monkeypatch):
    shape, axis, order = LAYOUTS[layout]
    run = KINDS[kind][run]
    if run is instance and np.prod(shape) == shape[0] * shape[axis]:
        pytest.skip("one value per instance")
    x, dy = (order((rng.standard_normal(shape) * 3 + 7).astype(dtype)) for _ in "ab")
    weight, bias = rng.random((2, shape[axis])).astype(dtype)
    short = Spy(getattr(plain, kind))
    monkeypatch.setattr(plain, kind, short)
    outputs, backward = run(x, weight, bias, axis)
    assert short.ways == ["general" if kind == "features" and not x.flags.c_contiguous else "short"]
    found = [*outputs, *backward(dy), *backward(np.asfortranarray(dy)), *backward(dy[..., ::-1])]
    monkeypatch.setattr(plain, kind, None)
    outputs, backward = run(x, weight, bias, axis)
    expected = [*outputs, *backward(dy), *backward(np.asfortranarray(dy)), *backward(dy[..., ::-1])]
    for one, other in zip(found, expected, strict=True):
        assert type(one) is type(other)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            assert memory_order(one) == memory_order(other)
        np.testing.assert_array_equal(one, other)


def memory_order(array):
    """Strides of the axes that have any."""
    return [stride for stride, size in zip(array.strides, array.shape, strict=True) if size > 1]


class Spy:
    """Tells which way each call goes."""

    def __init__(self, short):
        self.short = short
        self.ways = []

    def forward(self, *arguments):
        return self._record(self.short.forward(*arguments))

    def inference(self, *arguments):
        return self._record(self.short.inference(*arguments))

    def _record(self, found):
        self.ways.append("short" if found else "general")
        return found


def swapped(x):
    return x.astype(x.dtype.newbyteorder())


def unaligned(x):
    memory = np.empty(x.nbytes + 1, np.uint8)[1:]
    result = memory.view(x.dtype).reshape(x.shape)
    result[...] = x
    return result


class Subclass(np.ndarray):
    """Not exactly an array."""


NOT_PLAIN = {
    "foreign bytes": swapped,
    "unaligned": unaligned,
    "sliced": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "half": lambda x: x.astype(np.float16),
    "integers": lambda x: x.astype(int),
    "list": lambda x: x.tolist(),
    "subclass": lambda x: x.view(Subclass),
    "empty": lambda x: x[:0],
    "one axis": lambda x: x[0],
    "none": lambda _: None,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", NOT_PLAIN)
def test_what_is_not_plain_goes_the_general_way(kind, what, rng):
    x = rng.standard_normal((4, 6)).astype(np.float32)
    weight = np.ones(6, np.float32)
    forward = getattr(plain, kind).forward
    arguments = {
        "batch": lambda x, w: (x, w, w, 1e-5, 1, "exact", None, None),
        "groups": lambda x, w: (x, 1, w, w, 1e-5, 1, None, None),
        "features": lambda x, w: (x, 6, w, w, 1e-5, True, None),
    }[kind]
    assert forward(*arguments(x, weight)) is not None
    if (kind, what) != ("features", "one axis"):
        assert forward(*arguments(NOT_PLAIN[what](x), weight)) is None
    if what != "none":
        assert forward(*arguments(x, NOT_PLAIN[what](weight))) is None


@pytest.mark.parametrize(
    "change",
    [
        {"eps": -1e-5},
        {"eps": 1},
        {"eps": float("nan")},
        {"eps": "1"},
        {"channel_axis": 2},
        {"channel_axis": -3},
        {"channel_axis": True},
        {"channel_axis": 1.0},
        {"reduction": "float32"},
        {"reduction": None},
        {"channels": 5},
        {"weight": np.ones(5, np.float32)},
        {"bias": np.ones((1, 6), np.float32)},
    ],
    ids=str,
)
def test_other_bad_arguments_go_the_general_way(change):
    arguments = {
        "x": np.ones((4, 6), np.float32),
        "weight": None,
        "bias": None,
        "eps": 1e-5,
        "channel_axis": 1,
        "reduction": "exact",
        "channels": 6,
        "general": None,
    }
    assert plain.batch.forward(*arguments.values())
    assert plain.batch.forward(*(arguments | change).values()) is None


def test_one_value_per_channel_goes_the_general_way_which_says_so():
    assert plain.batch.forward(np.ones((1, 6), np.float32), None, None, 1e-5, 1, "exact", None, None) is None
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        F.batch_norm(np.ones((1, 6), np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_a_backward_is_copied_and_referred_to_like_a_function(kind, rng):
    x = rng.standard_normal((4, 6)).astype(np.float32)
    for run in KINDS[kind].values():
        if run is not instance:
            backward = run(x, np.ones(6, np.float32), np.ones(6, np.float32), 1)[1]
            assert copy.deepcopy(backward) is backward
            assert weakref.ref(backward)() is backward


@pytest.mark.parametrize("shape", [(4, 0), (0, 4), (2, 0, 3), (0, 2, 3), (2, 3, 0)])
@pytest.mark.parametrize("masked", [False, True])
def test_arrays_of_no_values(shape, masked):
    x = np.zeros(shape, np.float32)
    mask = np.ones((shape[0], *shape[2:]), bool) if masked else None
    y, moments, backward = F.batch_norm(x, mask=mask)
    assert y.shape == backward(x)[0].shape == shape
    assert moments.mean.shape == (shape[1],)
    assert F.batch_norm_inference(x, np.zeros(shape[1]), np.ones(shape[1]))[0].shape == shape
    if shape[1]:
        y, backward = F.group_norm(x, 1)
        assert y.shape == backward(x)[0].shape == shape
    if all(shape[1:]):
        y, backward = F.layer_norm(x, shape[1:])
        assert y.shape == backward(x)[0].shape == shape


@pytest.mark.parametrize("reduction", ["exact", "float64"])
def test_a_thread_of_a_small_stack_will_do(reduction, rng):
    """musl gives threads 128 KB."""
    x = np.moveaxis(rng.standard_normal((2, 3, 40, 700)), -1, 1)
    found = []

    def run():
        for a in (x, x[:, :, 0, 0].copy()):
            y, _, backward = F.batch_norm(a, reduction=reduction)
            found.extend([y, backward(a)[0]])
        y, backward = F.group_norm(x, 7)
        found.extend([y, backward(x)[0]])

    before = threading.stack_size(128 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert len(found) == 6
