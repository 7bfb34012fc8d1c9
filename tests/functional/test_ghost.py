"""Ghost batch normalization in one process: each virtual batch is normalized as by batch normalization."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from gradcheck import check_function, check_module

from syncbn import BatchNorm, GhostBatchNorm
from syncbn import functional as F


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("samples", "size", "edges"), [(12, 4, (0, 4, 8, 12)), (11, 4, (0, 4, 8, 11)), (9, 4, (0, 3, 6, 9)), (5, 9, (0, 5))]
)
def test_virtual_batches_are_consecutive_and_nearly_equal(samples, size, edges, dtype, rng):
    x, dy = (rng.standard_normal((2, samples, 3, 2)) + 1).astype(dtype)
    weight, bias = rng.standard_normal((2, 3)).astype(dtype)
    y, moments, backward = F.ghost_batch_norm(x, size, weight, bias)
    dx, dweight, dbias = backward(dy)
    sums = np.zeros((2, 3))
    assert len(moments) == len(edges) - 1
    for start, stop, found in zip(edges, edges[1:], moments, strict=False):
        part = slice(start, stop)
        expected, statistics, expected_backward = F.batch_norm(x[part], weight.astype(float), bias.astype(float))
        expected_dx, *gradients = expected_backward(dy[part])
        sums += gradients
        np.testing.assert_array_equal(y[part], expected)
        np.testing.assert_array_equal(dx[part], expected_dx)
        np.testing.assert_array_equal(found.mean, statistics.mean)
        assert found.count == 2 * (stop - start)
    np.testing.assert_array_equal((dweight, dbias), sums.astype(dtype))
    whole = F.batch_norm(x, weight, bias)[0]
    assert np.allclose(y, whole, atol=1e-2) == (len(moments) == 1)


def test_gradients_are_finite_differences(rng):
    x = rng.standard_normal((10, 3, 2)) + 2
    weight, bias = rng.standard_normal((2, 3))

    def forward(*arguments):
        y, _, backward = F.ghost_batch_norm(arguments[0], 4, *arguments[1:])
        return y, backward

    check_function(forward, x, weight, bias, rng=rng)
    check_function(forward, x, None, bias, rng=rng)
    for training in (True, False):
        layer = GhostBatchNorm(3, 4, dtype=np.float64).train(training)
        layer.weight.data[...] = weight
        check_module(layer, x, rng)


def splits(values, sample):
    """Return the virtual batches of two samples."""
    return np.split(values, 3 if sample == 0 else [2, 4], axis=sample)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_memory_orders_and_channel_axes(axis, rng):
    x = rng.standard_normal((6, 5, 4, 6)).astype(np.float32)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    weight, bias = rng.standard_normal((2, x.shape[axis])).astype(np.float32)
    for values in (x, np.asfortranarray(x), x[::-1, :, ::-1], np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)):
        y, _, backward = F.ghost_batch_norm(values, 2, weight, bias, channel_axis=axis)
        dx, dweight, dbias = backward(dy)
        sample = 0 if axis else 1
        parts = splits(values, sample)
        expected = [F.batch_norm(part, weight, bias, channel_axis=axis) for part in parts]
        gradients = [backward(part) for (_, _, backward), part in zip(expected, splits(dy, sample), strict=True)]
        np.testing.assert_array_equal(y, np.concatenate([y for y, *_ in expected], axis=sample))
        np.testing.assert_array_equal(dx, np.concatenate([dx for dx, *_ in gradients], axis=sample))
        np.testing.assert_allclose(dweight, sum(dweight for _, dweight, _ in gradients), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(dbias, sum(dbias for *_, dbias in gradients), rtol=1e-5, atol=1e-5)
        if axis == 1 and values.transpose(0, 2, 3, 1).flags.c_contiguous:
            assert y.strides == dx.strides == values.strides


def test_the_layer_updates_running_statistics_with_each_virtual_batch(rng):
    x = rng.standard_normal((9, 3)) * 2 + 1
    ghost, steps = GhostBatchNorm(3, 3, dtype=np.float64), BatchNorm(3, dtype=np.float64)
    ghost(x)
    for start in (0, 3, 6):
        steps(x[start : start + 3])
    np.testing.assert_array_equal(ghost.running_mean, steps.running_mean)
    np.testing.assert_array_equal(ghost.running_var, steps.running_var)
    assert ghost.num_batches_tracked == 3
    assert ghost.moments.count == 9
    np.testing.assert_allclose(ghost.moments.var, x.var(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(ghost.eval()(x)[0], steps.eval()(x)[0])
    untracked = GhostBatchNorm(3, 3, track_running_stats=False).eval()
    np.testing.assert_array_equal(untracked(x)[0], F.ghost_batch_norm(x, 3)[0])
    steps.load_state_dict(ghost.state_dict())


def test_no_values_and_the_backward(rng):
    for shape in ((0, 3), (0, 3, 2), (4, 0), (4, 3, 0)):
        y, (moments,), backward = F.ghost_batch_norm(np.zeros(shape, np.float32), 5)
        assert y.shape == backward(y)[0].shape == shape
        assert moments.count in (0, 4)
    layer = GhostBatchNorm(3, 2)
    y, backward = layer(rng.standard_normal((4, 3)))
    plain = F.ghost_batch_norm(y, 2)[2]
    assert copy.deepcopy(plain) is plain
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="have changed since the forward"):
        backward(y)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: F.ghost_batch_norm(x, 0), "virtual_batch_size must be at least 1, got 0"),
        (lambda x: F.ghost_batch_norm(x, 2.0), r"virtual_batch_size must be an integer, got 2\.0"),
        (lambda x: F.ghost_batch_norm(x, 1), "more than 1 value per channel"),
        (lambda x: F.ghost_batch_norm(x, 2, np.ones(4)), r"weight must have shape \(3,\), got \(4,\)"),
        (lambda x: F.ghost_batch_norm(x, 3)[2](x[:2]), "dy must have y's shape"),
        (lambda x: F.ghost_batch_norm(x, 3)[2]([1]), "dy must be a NumPy array"),
        (lambda x: F.ghost_batch_norm(x, 2, name=3), "name must be a str"),
        (lambda _x: GhostBatchNorm(3, 0), "virtual_batch_size must be at least 1"),
        (lambda x: GhostBatchNorm(4, 2)(x), "x must have 4 channels"),
    ],
)
def test_errors_state_what_was_passed_and_what_was_expected(call, text, rng):
    with pytest.raises((ValueError, TypeError), match=text):
        call(rng.standard_normal((5, 3)))
