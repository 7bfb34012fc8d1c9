"""Models that `syncbn.onnx.export` writes give the network's outputs in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import (
    BatchNorm,
    FrozenBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Module,
    RMSNorm,
    SerialComm,
    SyncBatchNorm,
    WeightNorm,
)
from syncbn.nn import (
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    ReLU,
    ResidualBlock,
    Sequential,
    Sigmoid,
    Tanh,
    fuse,
)

onnx = pytest.importorskip("onnx", reason="pip install onnx onnxruntime")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnx onnxruntime")

from syncbn.onnx import _CONVERTERS, export  # noqa: E402

VECTOR, IMAGE = (6,), (4, 8, 9)


def frozen(norm):
    norm(np.random.default_rng(2).standard_normal((5, norm.num_features)) * 3 + 1)
    return FrozenBatchNorm.convert_frozen_batchnorm(norm)


LAYERS = {
    "batch": (lambda: BatchNorm(6), VECTOR),
    "batch of images": (lambda: BatchNorm(4, eps=0.1), IMAGE),
    "batch of images, channels last": (lambda: BatchNorm(9, channel_axis=-1), IMAGE),
    "batch of vectors, channels last": (lambda: BatchNorm(6, channel_axis=-1), VECTOR),
    "batch without affine": (lambda: BatchNorm(4, affine=False), IMAGE),
    "batch without weight": (lambda: BatchNorm(4, weight=False), IMAGE),
    "synchronized batch": (lambda: SyncBatchNorm(6, comm=SerialComm()), VECTOR),
    "frozen batch": (lambda: frozen(BatchNorm(4)), IMAGE),
    "group": (lambda: GroupNorm(2, 4), IMAGE),
    "group of vectors": (lambda: GroupNorm(3, 6, eps=0.1), VECTOR),
    "group, channels last": (lambda: GroupNorm(3, 9, channel_axis=-1), IMAGE),
    "layer": (lambda: LayerNorm(6), VECTOR),
    "layer over two axes": (lambda: LayerNorm((8, 9), eps=0.1), IMAGE),
    "layer without affine": (lambda: LayerNorm((4, 8, 9), elementwise_affine=False), IMAGE),
    "instance": (lambda: InstanceNorm(4, affine=True), IMAGE),
    "instance without affine": (lambda: InstanceNorm(4), IMAGE),
    "instance with running statistics": (lambda: InstanceNorm(4, track_running_stats=True), IMAGE),
    "instance, channels last": (lambda: InstanceNorm(9, affine=True, channel_axis=-1), IMAGE),
    "rms": (lambda: RMSNorm(6), VECTOR),
    "rms over two axes": (lambda: RMSNorm((8, 9), eps=0.1), IMAGE),
    "weight": (lambda: WeightNorm(Dense(6, 5)), VECTOR),
    "dense": (lambda: Dense(6, 5), VECTOR),
    "dense without bias": (lambda: Dense(6, 5, bias=False), VECTOR),
    "convolution": (lambda: Conv2d(4, 5, (3, 2), (2, 1), (1, 0)), IMAGE),
    "maximum": (lambda: MaxPool2d(3, 2, 1), IMAGE),
    "average": (lambda: AvgPool2d((3, 2), (2, 1), (1, 0)), IMAGE),
    "global average": (GlobalAvgPool2d, IMAGE),
    "flatten": (Flatten, IMAGE),
    "relu": (ReLU, VECTOR),
    "sigmoid": (Sigmoid, VECTOR),
    "tanh": (Tanh, VECTOR),
    "dropout": (Dropout, VECTOR),
    "block": (lambda: ResidualBlock(4, 6, 2, BatchNorm), IMAGE),
    "block with identity": (lambda: ResidualBlock(4, 4), IMAGE),
    "empty": (Sequential, VECTOR),
    "network of vectors": (
        lambda: Sequential(Dense(6, 8), ReLU(), BatchNorm(8), Dropout(0.3), Sequential(Dense(8, 3), Tanh())),
        VECTOR,
    ),
    "network of images": (
        lambda: Sequential(
            Conv2d(4, 6, 3, padding=1, bias=False), BatchNorm(6), ReLU(), MaxPool2d(2), Flatten(), Dense(96, 3)
        ),
        IMAGE,
    ),
}


def trained(model, x):
    """Give a network parameters and running statistics that are not the initial ones."""
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data[...] += 0.3 * rng.standard_normal(parameter.data.shape)
    for _ in range(3):
        model(x * 3 + 1)
    return model


def run(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    return y


def assert_equal_outputs(model, path, shape, dtype=np.float32):
    """Check outputs for batches of 5 and of 1, and that the model is what it was."""
    x = np.random.default_rng(0).standard_normal((5, *shape)).astype(dtype)
    trained(model, x)
    state = model.state_dict()
    export(model, path, shape)
    assert all(module.training for _, module in model.named_modules())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    for part in (x, x[:1]):
        with model.evaluating():
            y, _ = model(part)
        found = run(path, part)
        assert found.dtype == dtype
        np.testing.assert_allclose(
            found, y, rtol=0, atol=(1e-5 if dtype == np.float32 else 1e-11) * np.abs(y).max()
        )  # eps is float32 in ONNX


@pytest.mark.parametrize("name", LAYERS)
def test_outputs(name, tmp_path):
    make, shape = LAYERS[name]
    assert_equal_outputs(make(), tmp_path / "model.onnx", shape)


def test_every_layer_is_tested():
    tested = {type(module) for make, _ in LAYERS.values() for _, module in make().named_modules()}
    assert tested == set(_CONVERTERS)


def test_float64(tmp_path):
    model = Sequential(Dense(6, 8, dtype="float64"), Tanh(), BatchNorm(8, dtype="float64"), Dense(8, 3))
    assert_equal_outputs(model, tmp_path / "model.onnx", VECTOR, np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_groups_with_a_large_mean(tmp_path, dtype):
    """The formula of ONNX is E[x²] − E[x]², which loses all digits of it in float32."""
    model = Sequential(GroupNorm(2, 4, dtype=dtype))
    x = 3000 + np.random.default_rng(0).standard_normal((3, 4, 8, 9)).astype(dtype)
    export(model, tmp_path / "model.onnx", IMAGE)
    np.testing.assert_allclose(
        run(tmp_path / "model.onnx", x), model.eval()(x)[0], atol=1e-3 if dtype == np.float32 else 1e-8
    )


def test_a_fused_network(tmp_path):
    model = trained(Sequential(Dense(6, 8), ReLU(), BatchNorm(8), Dense(8, 3)), np.ones((4, 6), np.float32))
    export(fuse(model), tmp_path / "fused.onnx", VECTOR)
    assert [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node] == [
        "Gemm",
        "Relu",
        "Gemm",
        "Identity",
    ]
    x = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    np.testing.assert_allclose(run(tmp_path / "fused.onnx", x), model.eval()(x)[0], atol=1e-5)


class Doubled(Dense):
    def forward(self, x):
        y, backward = super().forward(x)
        return 2 * y, backward


@pytest.mark.parametrize(
    ("model", "shape", "error", "text"),
    [
        (
            Sequential(ReLU(), Doubled(6, 3)),
            VECTOR,
            TypeError,
            r"layer 1, Doubled, has no equivalent in ONNX",
        ),
        (Module(), VECTOR, TypeError, r"Module, has no equivalent in ONNX: export a network of AvgPool2d, BatchNorm, "),
        (BatchNorm(6, track_running_stats=False), VECTOR, TypeError, r"track_running_stats=True"),
        (Dense(6, 3), (5,), ValueError, r"\(N, 6\), got \(2, 5\)"),
        (Dense(6, 3), (-6,), ValueError, r"input_shape"),
        ([Dense(6, 3)], VECTOR, TypeError, r"model must be a Module, got list"),
    ],
)
def test_errors(model, shape, error, text, tmp_path):
    with pytest.raises(error, match=text):
        export(model, tmp_path / "model.onnx", shape)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_does_not_exist(tmp_path):
    with pytest.raises(OSError, match="none"):
        export(ReLU(), tmp_path / "none" / "model.onnx", VECTOR)
