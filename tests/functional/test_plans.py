"""Plans: one call's arguments from the forward to the backward, whatever their memory."""

from __future__ import annotations

import copy
import threading
import weakref

import numpy as np
import pytest

from syncbn import functional as F
from syncbn._core import plans

BACKWARDS = {
    "batch_norm": lambda x: F.batch_norm(x)[2],
    "batch_norm_inference": lambda x: F.batch_norm_inference(x, x[0], x[0] ** 2)[1],
    "group_norm": lambda x: F.group_norm(x, 2)[1],
    "layer_norm": lambda x: F.layer_norm(x, 6)[1],
}


@pytest.mark.parametrize("name", BACKWARDS)
def test_a_backward_is_copied_and_referred_to_like_a_function(name, rng):
    backward = BACKWARDS[name](rng.standard_normal((4, 6)))
    assert copy.deepcopy(backward) is backward
    assert weakref.ref(backward)() is backward


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5), (0, 4)])
def test_a_backward_is_made_again_of_its_state(shape, dtype, rng):
    """The bridge to PyTorch saves tensors, from which it makes the backward."""
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    weight, bias, mean, var = rng.uniform(0.5, 2, (4, 4)).astype(dtype)
    _, _, of_batch = F.batch_norm(x, weight, bias)
    _, of_constants = F.batch_norm_inference(x, mean, var, weight, bias)
    for backward, reduction in ((of_batch, "exact"), (of_constants, "float64")):
        again = plans.batch_norm_gradient(x, weight, bias, 1e-5, 1, None, reduction, backward.state, None, "")
        for found, expected in zip(again(dy), backward(dy), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype


def test_float16_is_widened_exactly_and_rounded_to_nearest_even(rng):
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    x = every[np.isfinite(every)].reshape(-1, 2)
    scale = rng.lognormal(0, 4, 2)
    mean, var, bias = np.zeros(2), np.ones(2), np.zeros(2)
    y, _ = F.batch_norm_inference(x, mean, var, scale, bias, eps=0.0)
    wide, _ = F.batch_norm_inference(x.astype(np.float32), mean, var, scale, bias, eps=0.0)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(y.view(np.uint16), wide.astype(np.float16).view(np.uint16))
    strided, _ = F.batch_norm_inference(np.repeat(x, 2, axis=0)[::2], mean, var, scale, bias, eps=0.0)
    np.testing.assert_array_equal(strided.view(np.uint16), y.view(np.uint16))


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
