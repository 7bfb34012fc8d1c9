from __future__ import annotations

import numpy as np
import pytest
from gradcheck import check_module

from syncbn.layers import BatchNorm
from syncbn.nn import Conv2d, ResidualBlock, Sequential


def batch_norm(channels):
    return BatchNorm(channels, dtype=np.float64)


@pytest.mark.parametrize("norm", [None, batch_norm])
@pytest.mark.parametrize(("channels", "stride"), [((3, 3), 1), ((3, 5), 1), ((3, 3), 2), ((3, 5), (1, 2))])
def test_gradients(channels, stride, norm, rng):
    block = ResidualBlock(*channels, stride, norm, rng=rng, dtype=np.float64)
    for parameter in block.parameters():
        parameter.data += 0.1 * rng.standard_normal(parameter.data.shape)
    # Small steps, so that no input of a ReLU changes its sign.
    check_module(block, rng.standard_normal((2, 3, 6, 5)), rng, step=1e-7, rtol=1e-5)


def test_identity_shortcut_adds_the_input(rng):
    block = ResidualBlock(3, 3, rng=rng)
    x = rng.standard_normal((2, 3, 4, 4)).astype(np.float32)
    for parameter in block.parameters():
        parameter.data[...] = 0
    np.testing.assert_array_equal(block(x)[0], np.maximum(x, 0))


def test_is_two_convolutions_and_a_shortcut(rng):
    block = ResidualBlock(3, 5, 2, batch_norm, rng=rng, dtype=np.float64)
    conv1, norm1, relu, conv2, norm2 = block.branch
    projection, norm3 = block.shortcut
    x = rng.standard_normal((2, 3, 6, 6))
    assert [conv.weight.data.shape for conv in (conv1, conv2, projection)] == [(5, 3, 3, 3), (5, 5, 3, 3), (5, 3, 1, 1)]
    assert (conv1.stride, conv2.stride, projection.stride) == ((2, 2), (1, 1), (2, 2))
    branch = Sequential(conv1, norm1, relu, conv2, norm2)(x)[0]
    shortcut = Sequential(projection, norm3)(x)[0]
    np.testing.assert_allclose(block(x)[0], np.maximum(branch + shortcut, 0), rtol=1e-12)


def test_a_normalizer_replaces_the_biases():
    with_norm, without = ResidualBlock(3, 5, norm=batch_norm), ResidualBlock(3, 5)
    convolutions = [m for block in (with_norm, without) for _, m in block.named_modules() if isinstance(m, Conv2d)]
    assert [conv.bias is None for conv in convolutions] == [True] * 3 + [False] * 3
    assert sum(isinstance(module, BatchNorm) for _, module in with_norm.named_modules()) == 3
    assert len(list(with_norm.named_buffers())) == 9


def test_norm_must_return_modules():
    with pytest.raises(TypeError, match="expects a Module at position 1, got"):
        ResidualBlock(3, 3, norm=lambda channels: channels)


def test_zero_init_residual_begins_as_the_shortcut(rng):
    block = ResidualBlock(3, 3, norm=BatchNorm, rng=rng, zero_init_residual=True)
    x = rng.standard_normal((4, 3, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(block(x)[0], np.maximum(x, 0))
    assert [norm.weight.data.any() for norm in (block.branch[1], block.branch[4])] == [True, False]


@pytest.mark.parametrize("norm", [None, lambda channels: BatchNorm(channels, affine=False)])
def test_zero_init_residual_needs_a_weight(norm):
    with pytest.raises(ValueError, match="zero_init_residual needs a norm with a weight"):
        ResidualBlock(3, 3, norm=norm, zero_init_residual=True)
