"""NumPy masked arrays are refused wherever an array is taken, since their mask would be lost."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import BatchNorm, GroupNorm, LayerNorm, Parameter, RMSNorm, SerialComm
from syncbn import functional as F
from syncbn.nn import (
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    ReLU,
    Sigmoid,
    mean_squared_error,
    softmax_cross_entropy,
)
from syncbn.train import evaluate

MASKED = np.ma.masked_array(np.ones((4, 3)), np.eye(4, 3, dtype=bool))
X = np.arange(12.0).reshape(4, 3) ** 2
VECTOR = np.ma.masked_array(np.ones(3), [True, False, False])
IMAGES = np.ma.masked_array(np.ones((1, 1, 2, 2), np.float32), True)

CALLS = {
    "x of batch_norm": lambda: F.batch_norm(MASKED),
    "x without masked elements": lambda: F.batch_norm(np.ma.masked_array(X)),
    "x of group_norm": lambda: F.group_norm(MASKED, 1),
    "x of layer_norm": lambda: F.layer_norm(MASKED, 3),
    "x of rms_norm": lambda: F.rms_norm(MASKED, 3),
    "x of instance_norm": lambda: F.instance_norm(MASKED[..., None] + np.arange(2)),
    "x of batch_norm_inference": lambda: F.batch_norm_inference(MASKED, np.zeros(3), np.ones(3)),
    "running mean": lambda: F.batch_norm_inference(X, VECTOR, np.ones(3)),
    "running variance": lambda: F.batch_norm_inference(X, np.zeros(3), VECTOR),
    "weight": lambda: F.batch_norm(X, VECTOR),
    "bias": lambda: F.group_norm(X, 1, None, VECTOR),
    "mask": lambda: F.batch_norm(X, mask=np.ma.masked_array(np.ones(4, bool), [True, False, False, False])),
    "mask of group_norm": lambda: F.group_norm(X, 1, mask=np.ma.masked_array(np.ones(4, bool), True)),
    "residual": lambda: F.batch_norm(X, residual=MASKED),
    "out": lambda: F.batch_norm(X, out=MASKED),
    "v": lambda: F.weight_norm(MASKED, np.ones((4, 1))),
    "g": lambda: F.weight_norm(X.T, VECTOR[:, None]),
    "dy of batch_norm": lambda: F.batch_norm(X)[-1](MASKED),
    "dy of group_norm": lambda: F.group_norm(X, 1)[-1](MASKED),
    "dy of layer_norm": lambda: F.layer_norm(X, 3)[-1](MASKED),
    "dw": lambda: F.weight_norm(X + 1, np.ones((4, 1)))[-1](MASKED),
    "x of layers": lambda: BatchNorm(3)(MASKED),
    "x of Dense": lambda: Dense(3, 1)(MASKED),
    "dy of Dense": lambda: Dense(2, 3)(np.ones((4, 2)))[1](MASKED),
    "x of Conv2d": lambda: Conv2d(1, 1, 1)(IMAGES),
    "x of MaxPool2d": lambda: MaxPool2d(1)(IMAGES),
    "x of GlobalAvgPool2d": lambda: GlobalAvgPool2d()(IMAGES),
    "x of ReLU": lambda: ReLU()(MASKED),
    "dy of ReLU": lambda: ReLU()(X)[1](MASKED),
    "x of Flatten": lambda: Flatten()(MASKED),
    "logits": lambda: softmax_cross_entropy(MASKED, np.zeros(4, int)),
    "labels": lambda: softmax_cross_entropy(X, np.ma.masked_array([0, 1, 2, 0], [0, 0, 0, 1])),
    "x of Sigmoid": lambda: Sigmoid()(MASKED),
    "targets": lambda: mean_squared_error(X, MASKED),
    "data of a parameter": lambda: Parameter(MASKED),
    "gradient of a parameter": lambda: Parameter(X).add_grad(MASKED),
    "state": lambda: BatchNorm(3).load_state_dict({**BatchNorm(3).state_dict(), "weight": VECTOR}),
    "Keras's weights": lambda: BatchNorm(3, affine=False).load_keras_weights([VECTOR, np.ones(3)]),
    "samples": lambda: evaluate(Dense(3, 2), MASKED, np.zeros(4, int), SerialComm()),
    "labels of samples": lambda: evaluate(Dense(3, 2), X, np.ma.masked_array([0, 1, 0, 1]), SerialComm()),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_masked_arrays_are_refused(call):
    with pytest.raises(TypeError, match=r"is a NumPy masked array, whose mask would be lost: .* mask="):
        call()


@pytest.mark.parametrize("layer", [GroupNorm(1, 3), LayerNorm(3), RMSNorm(3), BatchNorm(3)])
def test_plain_subclasses_are_taken(layer):
    class Plain(np.ndarray):
        pass

    np.testing.assert_array_equal(layer(X.view(Plain))[0], layer(X)[0])
