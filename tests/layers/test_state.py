"""Arguments, results and errors of ``load_state_dict``, and layers with a bias alone."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, SerialComm, SyncBatchNorm
from syncbn.nn import Dense, Sequential


def trained() -> BatchNorm:
    layer = BatchNorm(2)
    layer(np.array([[1.0, 5.0], [2.0, 9.0]]))
    return layer


def test_a_state_without_num_batches_tracked_loads_with_0():
    state = trained().state_dict()
    del state["num_batches_tracked"]
    for layer in (trained(), InstanceNorm(2, affine=True, track_running_stats=True)):
        assert layer.load_state_dict(state) == ([], [])
        assert layer.num_batches_tracked == 0
        np.testing.assert_array_equal(layer.running_var, state["running_var"])
    nested = Sequential(Dense(2, 2), Sequential(trained()))
    state = {name: value for name, value in nested.state_dict().items() if "tracked" not in name}
    assert nested.load_state_dict(state) == ([], [])
    assert nested[1][0].num_batches_tracked == 0
    with pytest.raises(ValueError, match="unexpected 'running_mean'"):
        BatchNorm(2, track_running_stats=False).load_state_dict(trained().state_dict())


def test_without_strict_keys_are_reported():
    layer = trained()
    before = layer.state_dict()
    missing, unexpected = layer.load_state_dict({"weight": [2, 3], "extra": 1, "more": "text"}, strict=False)
    assert missing == ["bias", "running_mean", "running_var", "num_batches_tracked"]
    assert unexpected == ["extra", "more"]
    assert layer.weight.data.tolist() == [2, 3]
    for name in missing:
        np.testing.assert_array_equal(layer.state_dict()[name], before[name])
    with pytest.raises(ValueError, match=r"missing 'bias'.*unexpected 'extra'"):
        layer.load_state_dict({"weight": [4, 5], "extra": 1})
    with pytest.raises(ValueError, match="'weight' has shape"):
        layer.load_state_dict({"weight": [4, 5, 6], "bias": [0, 0]}, strict=False)
    assert layer.weight.data.tolist() == [2, 3]


def test_a_value_that_numpy_cannot_take_is_named():
    class BFloat16:
        def __array__(self, dtype=None, copy=None):
            raise TypeError("Got unsupported ScalarType BFloat16")

    for wrong in (BFloat16(), [[1.0], [1.0, 2.0]]):
        with pytest.raises(TypeError, match="'bias' is not an array of numbers"):
            trained().load_state_dict({**trained().state_dict(), "bias": wrong})


@pytest.mark.parametrize(
    "build",
    [
        lambda **o: BatchNorm(3, **o),
        lambda **o: SyncBatchNorm(3, comm=SerialComm(), **o),
        lambda **o: InstanceNorm(3, affine=True, **o),
        lambda **o: GroupNorm(3, 3, **o),
        lambda **o: LayerNorm(4, **o),
    ],
)
def test_a_layer_with_a_bias_alone(build, rng):
    x, dy = rng.standard_normal((2, 5, 3, 4))
    layer, whole = build(weight=False), build()
    assert layer.weight is None
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    layer.bias.data[...] = whole.bias.data[...] = rng.standard_normal(layer.bias.data.shape)
    results = []
    for each in (layer, whole):
        y, backward = each(x)
        results.append((y, backward(dy), each.bias.grad))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(build(weight=False, bias=False).parameters()) == []


def test_keras_without_scale_or_center():
    beta, gamma, mean, variance = [0.5, 1.0], [2.0, 3.0], [1.0, 2.0], [4.0, 9.0]
    layer = BatchNorm(2, eps=0, weight=False)
    layer.load_keras_weights([beta, mean, variance])
    np.testing.assert_array_equal(layer.eval()(np.array([[3.0, 5.0]]))[0], [[1.5, 2.0]])
    layer = BatchNorm(2, eps=0, bias=False)
    layer.load_keras_weights([gamma, mean, variance])
    np.testing.assert_array_equal(layer.eval()(np.array([[3.0, 5.0]]))[0], [[2.0, 3.0]])
    with pytest.raises(ValueError, match=r"expected 4 arrays .*weight=False for scale=False.*bias=False for center"):
        BatchNorm(2).load_keras_weights([beta, mean, variance])
    with pytest.raises(ValueError, match="track_running_stats=True"):  # mean and variance are not gamma and beta
        BatchNorm(2, track_running_stats=False).load_keras_weights([mean, variance])


@pytest.mark.parametrize(("dtype", "spread"), [(np.float16, 2e3), (np.float32, 1e20)])
def test_a_running_variance_beyond_its_dtype_gives_nan(dtype, spread):
    layer = BatchNorm(2, dtype=dtype, momentum=1.0)
    x = np.array([[0.0, 0.0], [spread, 1.0]])
    layer(x)
    y, backward = layer.eval()(x)
    assert np.isnan(y[:, 0]).all()
    np.testing.assert_allclose(y[:, 1], [-np.sqrt(0.5), np.sqrt(0.5)], rtol=2e-3)
    assert np.isnan(backward(np.ones_like(x))[:, 0]).all()


@pytest.mark.parametrize("name", ["weight", "running_var"])
@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (1,), (), (5,)])
def test_a_value_that_would_broadcast_is_not_loaded(name, shape):
    layer = BatchNorm(4)
    state = layer.state_dict() | {name: np.full(shape, 2.0)}
    with pytest.raises(ValueError, match=name) as raised:
        layer.load_state_dict(state)
    assert str(shape) in str(raised.value)
    np.testing.assert_array_equal(layer.state_dict()[name], 1)
