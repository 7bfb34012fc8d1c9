from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from syncbn.data import Dataset, prepare


@pytest.fixture
def data(rng):
    return Dataset(
        name="invented",
        source="nowhere",
        x_train=rng.integers(0, 256, (20, 8, 12), dtype=np.uint8),
        y_train=rng.integers(0, 3, 20, dtype=np.uint8),
        x_test=rng.integers(0, 100, (5, 8, 12), dtype=np.uint8),
        y_test=rng.integers(0, 3, 5, dtype=np.uint8),
        class_names=("a", "b", "c"),
    )


def pooled(images, pool):
    out = np.empty((len(images), images.shape[1] // pool, images.shape[2] // pool))
    for i, j in np.ndindex(out.shape[1:]):
        out[:, i, j] = images[:, i * pool : (i + 1) * pool, j * pool : (j + 1) * pool].mean(axis=(1, 2))
    return out


@pytest.mark.parametrize("pool", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pixels_are_pooled_and_standardized_with_the_training_set(data, pool, dtype):
    inputs = prepare(data, pool=pool, dtype=dtype)
    train, test = pooled(data.x_train, pool), pooled(data.x_test, pool)
    rtol = 1e-12 if dtype == np.float64 else 1e-6
    np.testing.assert_allclose([inputs.mean, inputs.std], [train.mean(), train.std()], rtol=1e-13)
    for actual, images in ((inputs.x_train, train), (inputs.x_test, test)):
        assert actual.dtype == dtype
        expected = ((images - train.mean()) / train.std())[:, None]
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol)
    np.testing.assert_allclose([inputs.x_train.mean(), inputs.x_train.std()], [0, 1], atol=1e-6)
    assert abs(inputs.x_test.mean()) > 0.1
    np.testing.assert_array_equal(inputs.y_train, data.y_train)
    np.testing.assert_array_equal(inputs.y_test, data.y_test)


def test_flat_changes_only_the_shape(data):
    images, flat = prepare(data, pool=2), prepare(data, pool=2, flat=True)
    assert images.x_train.shape == (20, 1, 4, 6)
    assert flat.x_train.shape == (20, 24)
    np.testing.assert_array_equal(flat.x_test, images.x_test.reshape(5, 24))


@pytest.mark.parametrize("pool", [1, 2])
def test_colours_are_channels(data, rng, pool):
    """Each channel is pooled by itself; mean and standard deviation are those of all channels."""
    x_train, x_test = (rng.integers(0, 256, (n, 3, 8, 12), dtype=np.uint8) for n in (20, 5))
    colours = dataclasses.replace(data, x_train=x_train, x_test=x_test)
    inputs, flat = prepare(colours, pool=pool), prepare(colours, pool=pool, flat=True)
    train = np.stack([pooled(x_train[:, channel], pool) for channel in range(3)], axis=1)
    np.testing.assert_allclose([inputs.mean, inputs.std], [train.mean(), train.std()], rtol=1e-13)
    np.testing.assert_allclose(inputs.x_train, (train - train.mean()) / train.std(), rtol=1e-6, atol=1e-6)
    assert inputs.x_test.shape == (5, 3, 8 // pool, 12 // pool)
    np.testing.assert_array_equal(flat.x_test, inputs.x_test.reshape(5, -1))


def test_bits_do_not_depend_on_the_order_of_the_images(data, rng):
    order = rng.permutation(20)
    other = dataclasses.replace(data, x_train=data.x_train[order], y_train=data.y_train[order])
    np.testing.assert_array_equal(prepare(other).x_train, prepare(data).x_train[order])
    np.testing.assert_array_equal(prepare(other).x_test, prepare(data).x_test)
    fewer = prepare(data.first(train=19))
    assert not np.array_equal(fewer.x_test, prepare(data).x_test)


def test_invalid_arguments(data):
    for pool in (0, 3, 12):
        with pytest.raises(ValueError, match=rf"pool .*8 x 12.* {pool}$"):
            prepare(data, pool=pool)
    with pytest.raises(TypeError, match="float32 or float64, got int32"):
        prepare(data, dtype=np.int32)
    with pytest.raises(ValueError, match="all training pixels are equal"):
        prepare(dataclasses.replace(data, x_train=np.full((20, 8, 12), 9, np.uint8)))
