"""Layers in one process: parameters, running statistics, modes, state."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from gradcheck import check_module

import syncbn
from syncbn import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Parameter,
    RMSNorm,
    SerialComm,
    SyncBatchNorm,
    WeightNorm,
)
from syncbn import functional as F
from syncbn.nn import Dense


def random_x(rng, *shape, dtype=np.float32):
    return (rng.standard_normal(shape) * 2 + 3).astype(dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda d: BatchNorm(4, dtype=d),
        lambda d: SyncBatchNorm(4, comm=SerialComm(), dtype=d),
        lambda d: BatchNorm(4, affine=False, dtype=d),
        lambda d: BatchNorm(4, bias=False, track_running_stats=False, dtype=d),
        lambda d: GroupNorm(2, 4, dtype=d),
        lambda d: InstanceNorm(4, affine=True, dtype=d),
        lambda d: InstanceNorm(4, affine=True, track_running_stats=True, dtype=d),
        lambda d: LayerNorm((4, 3), dtype=d),
        lambda d: RMSNorm(3, dtype=d),
        lambda d: WeightNorm(Dense(3, 5, dtype=d)),
        lambda d: WeightNorm(Dense(3, 5, dtype=d), axis=None),
    ],
)
def test_gradients_of_every_layer_are_finite_differences(make, training, rng):
    layer = make(np.float64)
    x = rng.standard_normal((6, 4, 3)) + 1
    if isinstance(layer, WeightNorm):
        x = x.reshape(-1, 3)
    for parameter in layer.parameters():
        parameter.data[...] = rng.standard_normal(parameter.data.shape)
    layer.train(training)
    check_module(layer, x, rng)


def test_gradients_add_up_until_they_are_forgotten(rng):
    layer, x = BatchNorm(3), random_x(rng, 5, 3)
    assert layer.weight.grad is None
    for _ in range(2):
        y, backward = layer(x)
        backward(y)
    twice = layer.weight.grad
    layer.zero_grad()
    assert layer.weight.grad is None
    y, backward = layer(x)
    backward(y)
    np.testing.assert_allclose(2 * layer.weight.grad, twice, rtol=1e-6)
    assert layer.weight.grad.dtype == layer.weight.data.dtype


def test_running_statistics_follow_the_recurrence_for_100_steps(rng):
    layer = BatchNorm(4, momentum=0.1, dtype=np.float64)
    mean, var = np.zeros(4), np.ones(4)
    for _ in range(100):
        x = rng.standard_normal((5, 4, 3)) * 2 + rng.standard_normal(4)[:, None]
        layer(x)
        mean = 0.9 * mean + 0.1 * x.mean((0, 2))
        var = 0.9 * var + 0.1 * x.var((0, 2), ddof=1)
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, var, rtol=1e-12)
    assert layer.num_batches_tracked == 100


@pytest.mark.parametrize(
    ("momentum", "weights"), [(None, (0.5, 0.5)), (0.0, (0.0, 0.0)), (1.0, (0.0, 1.0)), (0.25, (0.1875, 0.25))]
)
def test_momentum_is_the_weight_of_the_new_value_and_none_the_cumulative_average(momentum, weights, rng):
    layer = BatchNorm(2, momentum=momentum, dtype=np.float64)
    batches = [rng.standard_normal((6, 2)) for _ in range(2)]
    for batch in batches:
        layer(batch)
    expected = sum(w * batch.mean(axis=0) for w, batch in zip(weights, batches, strict=True))
    np.testing.assert_allclose(layer.running_mean, expected, atol=1e-15)


@pytest.mark.parametrize("value", [5, -3, float("nan"), "0.1"])
@pytest.mark.parametrize("make", [BatchNorm, InstanceNorm])
def test_momentum_that_is_changed_is_checked(make, value):
    layer = make(2, momentum=0.25)
    with pytest.raises(ValueError, match=rf"momentum must be in \[0, 1\] or None, got {value!r}"):
        layer.momentum = value
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\] or None, got ndarray of shape \(2,\)"):
        layer.momentum = np.full(2, 0.1)
    assert layer.momentum == 0.25
    layer.momentum = 0.5
    assert "momentum=0.5" in repr(layer)


def test_a_variance_far_below_eps_keeps_its_digits():
    x = np.array([[1.0], [1.0 + 1e-9]])
    layer = BatchNorm(1, momentum=1.0, dtype=np.float64)
    layer(x)
    np.testing.assert_allclose(layer.running_var, x.var(ddof=1), rtol=1e-12)
    assert layer.running_var[0] < 1e-17


def test_evaluation_uses_running_statistics_and_changes_nothing(rng):
    layer, x = BatchNorm(3, dtype=np.float64), rng.standard_normal((6, 3)) + 5
    layer(x)
    state = layer.state_dict()
    y, _ = layer.eval()(x)
    np.testing.assert_allclose(y, (x - state["running_mean"]) / np.sqrt(state["running_var"] + 1e-5), rtol=1e-12)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    assert not np.allclose(y, layer.train()(x)[0])


def test_without_running_statistics_evaluation_uses_the_batch(rng):
    layer, x = BatchNorm(3, track_running_stats=False), random_x(rng, 6, 3)
    assert layer.running_mean is layer.running_var is layer.num_batches_tracked is None
    np.testing.assert_array_equal(layer.eval()(x)[0], layer.train()(x)[0])
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_instance_norm_tracks_the_average_of_its_samples(rng):
    layer = InstanceNorm(3, momentum=0.1, track_running_stats=True, dtype=np.float64)
    x = rng.standard_normal((4, 3, 7)) + 2
    layer(x)
    np.testing.assert_allclose(layer.running_mean, 0.1 * x.mean(2).mean(0), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, 0.9 + 0.1 * x.var(2, ddof=1).mean(0), rtol=1e-12)


def test_an_empty_batch_leaves_the_running_statistics_alone():
    layer = BatchNorm(3)
    layer(np.zeros((0, 3), np.float32))
    np.testing.assert_array_equal(layer.running_var, 1)
    assert layer.num_batches_tracked == 0


def test_state_dict_has_pytorch_s_keys_copies_and_loads(rng):
    layer = BatchNorm(3)
    layer(random_x(rng, 6, 3))
    state = layer.state_dict()
    assert list(state) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert state["num_batches_tracked"].dtype == np.int64
    other = SyncBatchNorm(3, comm=SerialComm())
    other.load_state_dict({name: value.tolist() for name, value in state.items()})
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    state["weight"][0] = 99
    assert layer.weight.data[0] == other.weight.data[0] == 1


def test_load_state_dict_names_what_does_not_fit_and_changes_nothing():
    layer = BatchNorm(3)
    state = layer.state_dict()
    bad = {**state, "weight": np.full(3, 9.0), "bias": np.ones(4), "extra": np.ones(1)}
    del bad["running_var"]
    with pytest.raises(
        ValueError, match=r"missing 'running_var'.*unexpected 'extra'.*'bias' has shape \(4,\), expected \(3,\)"
    ):
        layer.load_state_dict(bad)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


@pytest.mark.parametrize("bad", [np.ones(3, complex), np.array(["1", "2", "3"]), np.array([1, 2, None])])
def test_a_state_that_is_not_of_real_numbers_changes_nothing(bad):
    layer = BatchNorm(3)
    before = layer.state_dict()
    with pytest.raises(TypeError, match=f"'running_var' is {bad.dtype}, not float32"):
        layer.load_state_dict({**before, "weight": np.full(3, 9.0), "running_var": bad})
    with pytest.raises(TypeError, match="'num_batches_tracked' is float64, not int64"):
        layer.load_state_dict({**before, "weight": np.full(3, 9.0), "num_batches_tracked": np.nan})
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_dtype_in_foreign_byte_order_becomes_native():
    layer = BatchNorm(3, dtype=np.dtype(np.float32).newbyteorder())
    assert all(array.dtype.isnative for array in layer.state_dict().values())


def test_keras_s_order_of_weights():
    layer = BatchNorm(2, eps=1e-3, momentum=0.01)
    layer.load_keras_weights([[2.0, 3.0], [4.0, 5.0], [6.0, 7.0], [8.0, 9.0]])
    state = layer.state_dict()
    assert [state[n].tolist() for n in ("weight", "bias", "running_mean", "running_var")] == [
        [2.0, 3.0],
        [4.0, 5.0],
        [6.0, 7.0],
        [8.0, 9.0],
    ]
    with pytest.raises(ValueError, match="expected 4 arrays for weight, bias, running_mean, running_var, got 2"):
        layer.load_keras_weights([[1.0, 1.0], [1.0, 1.0]])
    plain = BatchNorm(1, affine=False)
    plain.load_keras_weights([[3.0], [4.0]])
    assert plain.running_var[0] == 4.0


@pytest.mark.parametrize("axis", [1, -1])
def test_masks_and_channel_axes_reach_the_function(axis, rng):
    x = random_x(rng, 5, 4, 4)
    mask = rng.random((5, 4)) < 0.5
    layer = BatchNorm(4, channel_axis=axis)
    expected, moments, _ = F.batch_norm(x, channel_axis=axis, mask=mask)
    np.testing.assert_array_equal(layer(x, mask)[0], expected)
    np.testing.assert_allclose(layer.running_mean, 0.1 * moments.mean, rtol=1e-6)


def test_sync_batch_norm_on_one_rank_is_batch_norm(rng):
    x = random_x(rng, 6, 3, 5)
    sync, local = SyncBatchNorm(3, comm=SerialComm()), BatchNorm(3)
    y, backward = sync(x)
    y_local, backward_local = local(x)
    np.testing.assert_array_equal(y, y_local)
    np.testing.assert_array_equal(backward(x), backward_local(x))


def test_weight_norm_starts_equal_and_keeps_pytorch_s_keys(rng):
    dense = Dense(4, 3)
    x = random_x(rng, 5, 4)
    expected, _ = dense(x)
    layer = WeightNorm(dense)
    np.testing.assert_allclose(layer(x)[0], expected, rtol=1e-5, atol=1e-6)
    assert sorted(layer.state_dict()) == ["bias", "weight_g", "weight_v"]
    assert layer.state_dict()["weight_g"].shape == (3, 1)
    y, backward = layer(x)
    backward(y)
    assert {name: p.grad is not None for name, p in layer.named_parameters()} == {
        "weight_g": True,
        "weight_v": True,
        "bias": True,
    }
    with pytest.raises(ValueError, match="has no parameter 'kernel'"):
        WeightNorm(dense, "kernel")


def test_gamma_and_beta_are_spared_by_weight_decay():
    for layer in (BatchNorm(2), GroupNorm(1, 2), LayerNorm(2), InstanceNorm(2, affine=True), RMSNorm(2)):
        assert next(layer.parameters()).data.size
        assert not any(parameter.decay for parameter in layer.parameters())
    assert Parameter(np.ones(2)).decay


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: BatchNorm(0), "num_features must be at least 1, got 0"),
        (lambda: BatchNorm(3, momentum=2.0), "momentum must be in"),
        (lambda: BatchNorm(3, eps=-1.0), "eps"),
        (lambda: SyncBatchNorm(3, comm=SerialComm(), reduction="fast"), "reduction must be"),
        (lambda: GroupNorm(3, 4), "num_groups must divide num_channels, got 3 and 4"),
        (lambda: BatchNorm(3, affine=np.ones(3)), r"affine must be True or False, got ndarray of shape \(3,\)"),
        (lambda: BatchNorm(3, weight="ones"), "weight must be True or False, got 'ones'"),
        (lambda: BatchNorm(3, bias=None), "bias must be True or False, got None"),
        (lambda: BatchNorm(3, track_running_stats=1), "track_running_stats must be True or False, got 1"),
        (lambda: BatchNorm(3).train("eval"), "mode must be True or False, got 'eval'"),
        (lambda: GroupNorm(2.0, 4), r"num_groups must be an integer, got 2\.0"),
        (lambda: GroupNorm(1, True), "num_channels must be an integer, got True"),
        (lambda: GroupNorm(1, 3, channel_axis=2)(np.ones((4, 3), np.float32)), "channel_axis must be in"),
        (lambda: WeightNorm(Dense(2, 3), axis=2), "axis must be in"),
        (lambda: BatchNorm(3)(np.ones((4, 5), np.float32)), r"x must have 3 channels on axis 1, got shape \(4, 5\)"),
        (lambda: BatchNorm(3, affine=False)(np.ones((4, 5), np.float32)), "x must have 3 channels"),
        (lambda: BatchNorm(3)(np.ones((1, 3), np.float32)), "more than 1 value per channel"),
        (lambda: GroupNorm(1, 3)(np.ones((4, 5), np.float32)), "x must have 3 channels"),
        (lambda: InstanceNorm(3)(np.ones((4, 5, 2), np.float32)), "x must have 3 channels"),
        (lambda: InstanceNorm(3, affine=True)(np.ones((4, 5, 2), np.float32)), "x must have 3 channels"),
        (lambda: BatchNorm(3).eval()(np.ones((4, 5), np.float32)), "x must have 3 channels"),
        (
            lambda: InstanceNorm(3, track_running_stats=True).eval()(np.ones((4, 5, 2), np.float32)),
            "x must have 3 channels",
        ),
    ],
)
def test_bad_input_says_what_came_and_what_was_expected(make, text):
    with pytest.raises((ValueError, TypeError), match=text):
        make()


def test_layers_of_one_process_are_copied_and_pickled(rng):
    layer, x = BatchNorm(3), random_x(rng, 4, 3)
    layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(other.eval()(x)[0], layer.eval()(x)[0])
        assert other.weight is not layer.weight


@pytest.mark.parametrize(
    "missing",
    [
        "sys.modules['mpi4py'] = None\n",
        # mpi4py's wheels look for the library only when MPI is imported
        "def find(name): raise RuntimeError('cannot load MPI library')\n"
        "sys.modules['mpi4py'] = types.ModuleType('mpi4py'); sys.modules['mpi4py'].__getattr__ = find\n",
    ],
    ids=["mpi4py", "library"],
)
def test_without_mpi_sync_batch_norm_says_what_is_missing(missing):
    code = (
        f"import sys, types\n{missing}"
        "import syncbn, numpy as np\n"
        "try: syncbn.SyncBatchNorm(3)\n"
        "except ImportError as error: print(error)\n"
        "y, _ = syncbn.SyncBatchNorm(3, comm=syncbn.SerialComm())(np.eye(3)); print(y.shape)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'syncbn[mpi]'" in run.stdout
    assert "(3, 3)" in run.stdout


def test_what_the_package_exports():
    for name in syncbn.__all__:
        assert getattr(syncbn, name) is not None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_weight_normalization_begins_with_the_bits_of_the_layer(dtype, axis, rng):
    """The lengths are the norms of the weight, which are rounded."""
    for scale in (1.0, 1e-3, 300.0):
        dense = Dense(5, 7, rng=rng, dtype=dtype)
        dense.weight.data[...] = dense.weight.data * scale
        x = rng.standard_normal((4, 5)).astype(dtype)
        expected, _ = dense(x)
        np.testing.assert_array_equal(WeightNorm(dense, axis=axis)(x)[0], expected)
