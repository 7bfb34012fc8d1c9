"""A residual, relu and memory of the caller's, in the sweep that normalizes: in one process and on ranks."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from exact.bits import same_bits

from syncbn import BatchNorm, SerialComm, SyncBatchNorm
from syncbn import functional as F
from syncbn._core.kernels import which
from syncbn.nn import ReLU

SHAPES = [(6, 5), (4, 3, 5, 7), (3, 70, 4)]


def channels_last(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def arrays(rng, shape, last, dtype=np.float32):
    x, residual, dy = rng.standard_normal((3, *shape)).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[1])).astype(dtype)
    return *((channels_last(a) if last else a) for a in (x, residual, dy)), weight, bias


def separate(normalize, x, residual, dy, relu):
    """Return what three separate steps give, each in x's dtype."""
    y, *_, backward = normalize(x)
    y = y if residual is None else y + residual
    y, relu_backward = ReLU()(y) if relu else (y, lambda dy: dy)
    g = relu_backward(dy)
    return y, (*backward(g), *(() if residual is None else (g,)))


@pytest.mark.ranks
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("reduction", "dtype"), [("exact", np.float32), ("exact", np.float64), ("float64", np.float32)]
)
def test_ranks_get_the_bits_of_separate_steps(comm, shape, last, relu, added, masked, reduction, dtype):
    rng = np.random.default_rng(comm.rank)
    x, residual, dy, weight, bias = arrays(rng, shape, last, dtype)
    residual = residual if added else None
    mask = rng.random((shape[0], *shape[2:])) < 0.8 if masked else None
    options = {"comm": comm, "reduction": reduction, "mask": mask}
    y, gradients = separate(lambda x: F.batch_norm(x, weight, bias, **options), x, residual, dy, relu)
    fused, _, backward = F.batch_norm(x, weight, bias, residual=residual, relu=relu, **options)
    assert same_bits(fused, y)
    for one, other in zip(backward(dy), gradients, strict=True):
        assert same_bits(one, other)
    out, dx = np.full_like(x, 7), np.full_like(x, 7)
    found, _, backward = F.batch_norm(x, weight, bias, residual=residual, relu=relu, out=out, **options)
    assert found is out
    assert same_bits(out, y)
    found, *others = backward(dy, out=dx)
    assert found is dx
    for one, other in zip((dx, *others), gradients, strict=True):
        assert same_bits(one, other)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("reduction", ["exact", "float64"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_process_gets_the_bits_of_separate_steps(rng, shape, last, relu, added, reduction, dtype):
    x, residual, dy, weight, bias = arrays(rng, shape, last, dtype)
    residual = residual if added else None
    mask = rng.random((shape[0], *shape[2:])) < 0.8
    options = {"reduction": reduction, "mask": mask}
    y, gradients = separate(lambda x: F.batch_norm(x, weight, bias, **options), x, residual, dy, relu)
    fused, _, backward = F.batch_norm(x, weight, bias, residual=residual, relu=relu, **options)
    assert same_bits(fused, y)
    assert fused.strides == x.strides
    for one, other in zip(backward(dy), gradients, strict=True):
        assert same_bits(one, other)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [False, True])
def test_inference_gets_the_bits_of_separate_steps(rng, last, relu, added):
    x, residual, dy, weight, bias = arrays(rng, (4, 3, 5, 7), last)
    residual = residual if added else None
    statistics = rng.standard_normal(3), rng.random(3) + 0.5
    y, gradients = separate(lambda x: F.batch_norm_inference(x, *statistics, weight, bias), x, residual, dy, relu)
    out = np.empty_like(x)
    fused, backward = F.batch_norm_inference(x, *statistics, weight, bias, residual=residual, relu=relu, out=out)
    assert fused is out
    assert same_bits(fused, y)
    for one, other in zip(backward(dy), gradients, strict=True):
        assert same_bits(one, other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("last", [False, True])
def test_relu_makes_negative_zeros_positive(rng, shape, last, dtype):
    x, _, dy, weight, bias = arrays(rng, shape, last, dtype)
    weight[...], bias[...] = 0, -0.0
    assert np.signbit(F.batch_norm(x, weight, bias)[0]).any()
    assert not np.signbit(F.batch_norm(x, weight, bias, relu=True)[0]).any()
    y, _ = separate(lambda x: F.batch_norm(x, weight, bias), x, None, dy, True)
    assert same_bits(F.batch_norm(x, weight, bias, relu=True)[0], y)


def test_float16_is_rounded_once_after_all_steps(rng):
    x, residual, dy, weight, bias = arrays(rng, (4, 3, 5), False, np.float16)
    y, _, backward = F.batch_norm(x, weight, bias, residual=residual, relu=True)
    wide, _, wide_backward = F.batch_norm(
        *(a.astype(np.float32) for a in (x, weight, bias)), residual=residual.astype(np.float32), relu=True
    )
    np.testing.assert_array_equal(y, wide.astype(np.float16))
    gradients, wide_gradients = backward(dy), wide_backward(dy.astype(np.float32))
    for one, other in zip(gradients, wide_gradients, strict=True):
        np.testing.assert_array_equal(one, other.astype(np.float16))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("out_last", [False, True])
def test_out_is_what_is_returned(rng, dtype, last, out_last):
    x, _, dy, weight, bias = arrays(rng, (4, 3, 5, 7), last, dtype)
    y, _, backward = F.batch_norm(x, weight, bias)
    out, dx_out = (channels_last(np.full(x.shape, 7, dtype)) if out_last else np.full(x.shape, 7, dtype) for _ in "12")
    written, _, write = F.batch_norm(x, weight, bias, out=out)
    assert written is out
    np.testing.assert_array_equal(out, y)
    dx, dweight, dbias = write(dy, out=dx_out)
    assert dx is dx_out
    for one, other in zip((dx, dweight, dbias), backward(dy), strict=True):
        np.testing.assert_array_equal(one, other)


def test_out_may_be_a_slice_of_something_larger(rng):
    x = rng.standard_normal((4, 3, 5)).astype(np.float32)
    large = np.full((4, 6, 5), 7, np.float32)
    y, *_ = F.batch_norm(x, out=large[:, ::2])
    assert np.shares_memory(y, large)
    np.testing.assert_array_equal(large[:, ::2], F.batch_norm(x)[0])
    assert (large[:, 1::2] == 7).all()


@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        ([1.0], TypeError, "out must be a NumPy array, got list"),
        (np.empty((4, 3)), TypeError, "out must have x's dtype in native byte order, float32"),
        (np.empty((4, 4), np.float32), ValueError, r"out must have x's shape \(4, 3\), got \(4, 4\)"),
        (np.broadcast_to(np.float32(0), (4, 3)), ValueError, "out must be writable"),
    ],
)
def test_out_that_does_not_fit(rng, out, error, text):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    with pytest.raises(error, match=text):
        F.batch_norm(x, out=out)
    _, _, backward = F.batch_norm(x)
    with pytest.raises(error, match=text):
        backward(x, out=out)


def test_out_must_not_overlap_what_is_read(rng):
    x, residual = rng.standard_normal((2, 4, 3)).astype(np.float32)
    before = x.copy()
    for out in (x, residual):
        with pytest.raises(ValueError, match="must not overlap"):
            F.batch_norm(x, residual=residual, out=out)
    _, _, backward = F.batch_norm(x)
    with pytest.raises(ValueError, match="must not overlap"):
        backward(residual, out=x)
    np.testing.assert_array_equal(x, before)


def test_a_residual_must_look_like_x(rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    with pytest.raises(ValueError, match=r"residual must have y's shape \(4, 3\), got \(4, 1\)"):
        F.batch_norm(x, residual=x[:, :1])
    with pytest.raises(TypeError, match="residual must have x's dtype float32, got float64"):
        F.batch_norm(x, residual=x.astype(np.float64))
    with pytest.raises(TypeError, match="residual must be a NumPy array"):
        F.batch_norm(x, residual=x.tolist())


@pytest.mark.skipif(which == "reference", reason="NumPy operations allocate")
@pytest.mark.parametrize("shape", [(8, 16, 64, 64), (8192, 64)])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_memory_is_that_of_the_results(rng, shape, last, relu):
    """A forward allocates y and O(N·C), a backward dx and O(N·C): no copy of x, no mask of signs."""
    x, _, dy, weight, bias = arrays(rng, shape, last)
    few = x.nbytes // 20
    F.batch_norm(x, weight, bias, relu=relu)[2](dy)  # what is found once

    def peak(call):
        tracemalloc.start()
        try:
            result = call()
            return result, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    (y, _, backward), forward_peak = peak(lambda: F.batch_norm(x, weight, bias, relu=relu))
    assert y.nbytes <= forward_peak <= y.nbytes + few
    gradients, backward_peak = peak(lambda: backward(dy))
    assert dy.nbytes <= backward_peak <= dy.nbytes + few
    del gradients
    out, dx = np.empty_like(x), np.empty_like(x)
    (_, _, backward), forward_peak = peak(lambda: F.batch_norm(x, weight, bias, relu=relu, out=out))
    assert forward_peak <= few
    _, backward_peak = peak(lambda: backward(dy, out=dx))
    assert backward_peak <= few


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", [BatchNorm, lambda channels: SyncBatchNorm(channels, comm=SerialComm())])
def test_layers_take_a_residual_and_relu(rng, training, kind):
    x, residual, dy, *_ = arrays(rng, (4, 3, 5, 7), True)
    layers = [kind(3).train(training) for _ in range(2)]
    y, backward = layers[0](x)
    y = y + residual
    g = np.where(y > 0, dy, 0)
    dx = backward(g)
    out = np.empty_like(x)
    fused, fused_backward = layers[1](x, residual=residual, relu=True, out=out)
    assert fused is out
    np.testing.assert_array_equal(fused, np.maximum(y, 0))
    fused_dx, dresidual = fused_backward(dy)
    np.testing.assert_array_equal(fused_dx, dx)
    np.testing.assert_array_equal(dresidual, g)
    for (name, one), (_, other) in zip(layers[0].named_parameters(), layers[1].named_parameters(), strict=True):
        np.testing.assert_array_equal(one.grad, other.grad, err_msg=name)
    for (name, one), (_, other) in zip(layers[0].named_buffers(), layers[1].named_buffers(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
