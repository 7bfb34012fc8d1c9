"""Parts that the tests of `syncbn.keras` share: the backend of Keras, and gradients of a layer on it.

One process has one backend: that of the environment variable KERAS_BACKEND, for which conftest.py has a default.
"""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest

BACKEND = os.environ["KERAS_BACKEND"]

pytest.importorskip(BACKEND, reason=f"pip install {BACKEND}, or set KERAS_BACKEND")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    keras = pytest.importorskip("keras", reason="pip install keras")

KERAS_WARNINGS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""Mark for tests, because NumPy warns of Keras's own variables."""


def differentiate(layer, x, dy, **options):
    """Return y and the gradients of Σ y·dy for x and the trainable weights, as arrays; update the moving statistics."""
    layer.build(x.shape) if not layer.built else None
    if BACKEND == "torch":
        import torch

        tensor = torch.tensor(x, requires_grad=True)
        y = layer(tensor, **options)
        weights = [weight.value for weight in layer.trainable_weights]
        found = torch.autograd.grad((y.float() * torch.tensor(dy)).sum(), [tensor, *weights])
    else:
        import jax

        options = {key: value if key == "training" else jax.numpy.asarray(value) for key, value in options.items()}

        @jax.jit
        def loss(x, weights, others):
            y, others = layer.stateless_call(weights, others, x, **options)
            return (y.astype("float32") * dy).sum(), (y, others)

        values = [[each.value for each in kind] for kind in (layer.trainable_weights, layer.non_trainable_weights)]
        (dx, weights), (y, others) = jax.grad(loss, (0, 1), has_aux=True)(x, *values)
        found = [dx, *weights]
        for variable, value in zip(layer.non_trainable_weights, others, strict=True):
            variable.assign(value)
    return [as_array(each) for each in (y, *found)]


def as_array(tensor):
    return np.array(keras.ops.convert_to_numpy(tensor))


def moving(layer):
    return as_array(layer.moving_mean), as_array(layer.moving_variance)


def normalize(layer, x, **options):
    """Return y without gradients, as an array."""
    return as_array(layer(keras.ops.convert_to_tensor(x), **options))


def problem(shape, channels, offset=0.0):
    """Return x, dy, gamma and beta."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((2, *shape)) + offset).astype(np.float32)
    return x, dy, *rng.standard_normal((2, channels)).astype(np.float32)


def with_weights(layer, x, *weights):
    """Return the layer, built for x, with gamma and beta."""
    layer.build(x.shape)
    for variable, value in zip((layer.gamma, layer.beta), weights, strict=True):
        if variable is not None:
            variable.assign(value)
    return layer
