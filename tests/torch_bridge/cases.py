"""Helpers of the tests of the bridge to PyTorch, which import this module first: without PyTorch it skips them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the bridge to PyTorch is not tested: pip install 'syncbn[torch]'")

TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
CLASSES = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def tensor(rng, shape, dtype=torch.float64):
    """Return random values whose mean and scale differ between channels."""
    channels = [1, shape[1], *[1] * (len(shape) - 2)]
    values = rng.standard_normal(shape) * rng.uniform(0.5, 2, channels) + rng.standard_normal(channels)
    return torch.from_numpy(values).to(dtype)


def close(found, expected, dtype=None):
    """Assert that two tensors are equal up to rounding in ``dtype``, relative to the largest value."""
    tolerance = TOLERANCES[dtype or found.dtype]
    found, expected = found.detach().double(), expected.detach().double()
    assert found.shape == expected.shape
    if expected.numel():
        error = (found - expected).abs().max().item()
        assert error <= tolerance * max(1.0, expected.abs().max().item()), error


def same_bits(found, expected):
    """Assert that two tensors are equal."""
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.detach().double().numpy(), expected.detach().double().numpy())


def random_parameters(layer, rng):
    """Give a layer random weights and biases, the same for the same state of ``rng``."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.from_numpy(rng.uniform(0.5, 2, parameter.shape)))
    return layer


def run(layer, x, dy):
    """Return y and the gradients of x and of the parameters."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(x)
    gradients = torch.autograd.grad(y, [x, *layer.parameters()], dy)
    return [y.detach(), *gradients]
