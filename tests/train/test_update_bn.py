"""Population statistics in one process."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from syncbn import BatchNorm, BatchRenorm, InstanceNorm, SerialComm
from syncbn.moments import Moments, pool
from syncbn.nn import Dense, Dropout, ReLU, Sequential
from syncbn.train import update_bn

ONE = SerialComm()


@pytest.fixture
def x(rng):
    return rng.standard_normal((50, 4)) * 2 + 3


def network(rng, **options):
    hidden = Dense(4, 6, rng=rng, dtype=np.float64)
    return Sequential(hidden, BatchNorm(6, dtype=np.float64, **options), ReLU(), Dense(6, 2, dtype=np.float64))


@pytest.mark.parametrize("batch_size", [50, 16, 7])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_of_a_first_layer_are_those_of_all_samples(x, batch_size, momentum):
    layer = BatchNorm(4, momentum=momentum, dtype=np.float64)
    layer(x[:9] * 100)
    update_bn(x, layer, ONE, batch_size=batch_size)
    np.testing.assert_allclose(layer.running_mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(layer.running_var, x.var(axis=0, ddof=1), rtol=1e-14)
    assert layer.num_batches_tracked == -(-50 // batch_size)
    assert layer.momentum == momentum


def test_a_moving_average_differs(x):
    layer, precise = BatchNorm(4, dtype=np.float64), BatchNorm(4, dtype=np.float64)
    for start in range(0, 50, 10):
        layer(x[start : start + 10])
    update_bn(x, precise, ONE, batch_size=10)
    assert np.abs(layer.running_mean - precise.running_mean).max() > 0.1


def test_later_layers_get_inputs_normalized_with_the_statistics_of_their_batch(x, rng):
    model = Sequential(network(rng), BatchNorm(2, dtype=np.float64))
    batches = [x[:20], x[20:35], x[35:]]
    update_bn(batches, model, ONE)
    inner = copy.deepcopy(model[0])
    outputs = np.concatenate([inner(batch)[0] for batch in batches])
    np.testing.assert_allclose(model[1].running_mean, outputs.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model[1].running_var, outputs.var(axis=0, ddof=1), rtol=1e-12)
    inner.eval()
    assert np.abs(inner(x)[0].mean(axis=0) - model[1].running_mean).max() > 1e-6


def test_batches_are_arrays_or_have_them_as_first_item(x):
    arrays, pairs = BatchNorm(4), BatchNorm(4)
    update_bn([x[:30], x[30:]], arrays, ONE)
    update_bn(((x[part], "labels") for part in (slice(30), slice(30, 50))), pairs, ONE)
    np.testing.assert_array_equal(arrays.running_var, pairs.running_var)


def test_modes_dropout_and_other_layers_do_not_change(x, rng):
    class Frozen(BatchNorm):
        def train(self, _mode=True):
            return super().train(False)

    dropout, frozen = Dropout(0.5, rng=rng), Frozen(6, dtype=np.float64).train()
    instance = InstanceNorm(4, track_running_stats=True)
    untracked = BatchNorm(2, track_running_stats=False, dtype=np.float64)
    model = Sequential(instance, network(rng)[0], network(rng)[1], dropout, frozen, Dense(6, 2), untracked)
    model[2].eval()
    before, random_state = model.state_dict(), dropout.random_state.copy()
    modes = [module.training for _, module in model.named_modules()]
    model[0].eval()
    modes[1] = False
    update_bn(x, Sequential(*model[1:]), ONE, batch_size=25)
    assert [module.training for _, module in model.named_modules()] == modes
    np.testing.assert_array_equal(dropout.random_state, random_state)
    changed = [name for name, array in model.state_dict().items() if not np.array_equal(array, before[name])]
    assert changed == ["2.running_mean", "2.running_var", "2.num_batches_tracked"]


@pytest.mark.parametrize(
    ("loader", "error", "text"),
    [
        (np.zeros((0, 4)), ValueError, r"at least one sample, got an array of shape \(0, 4\)"),
        ([], ValueError, "at least one batch, got none"),
        (5, TypeError, "not iterable"),
        ([np.ones((3, 4)), np.ones((3, 5))], ValueError, "in_features|shape"),
        ([np.ones((3, 4)), np.ones((1, 4))], ValueError, "more than 1 value per channel"),
        (np.ma.masked_array(np.ones((3, 4))), TypeError, "masked array"),
    ],
)
def test_an_error_changes_nothing(loader, error, text, rng):
    model = network(rng)
    before = model.state_dict()
    with pytest.raises(error, match=text):
        update_bn(loader, model, ONE)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert model.training
    assert not model[1]._forward_hooks


def test_other_arguments_that_are_invalid(x, rng):
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        update_bn(x, network(rng), ONE, batch_size=0)
    with pytest.raises(TypeError, match="model must be a syncbn module"):
        update_bn(x, x, ONE)
    update_bn(x, Dense(4, 2), ONE)  # without batch normalization there is nothing to do


def test_pooled_moments_do_not_depend_on_the_order(rng):
    batches = [rng.standard_normal((n, 5)) * 10**p for n, p in ((1, 0), (7, 3), (300, -4), (2, 6))]
    moments = [Moments(len(b), b.mean(axis=0), b.var(axis=0)) for b in batches]
    one, other = pool(moments), pool([Moments(0, np.zeros(5), np.zeros(5)), *moments[::-1]])
    together = np.concatenate(batches)
    assert one.count == other.count == 310
    for found in (one, other):
        np.testing.assert_allclose(found.mean, together.mean(axis=0), rtol=1e-11)
        np.testing.assert_allclose(found.var, together.var(axis=0), rtol=1e-14)
    np.testing.assert_array_equal(one.mean, other.mean)
    np.testing.assert_array_equal(one.var, other.var)


def test_one_batch_or_equal_ones_keep_their_bits_and_what_is_not_finite_stays_so(rng):
    one = Moments(3, rng.standard_normal(4), rng.random(4))
    for found in (pool([one]), pool([one, one, one])):
        np.testing.assert_array_equal(found.mean, one.mean)
        np.testing.assert_array_equal(found.var, one.var)
    odd = Moments(3, np.array([np.nan, np.inf, 1e308, 0.0]), np.array([0.0, np.nan, 1e308, 1.0]))
    found = pool([odd, one, Moments(5, -odd.mean, odd.var)])
    assert not np.isfinite(found.mean[:2]).any()
    assert not np.isfinite(found.var[:3]).any()
    assert np.isfinite(found.var[3])


def test_the_schedule_of_batch_renormalization_continues(x):
    """Its limits depend on the number of batches of the training."""
    layer = BatchRenorm(4, dtype=np.float64)
    for start in range(0, 50, 10):
        layer(x[start : start + 10])
    update_bn(x, layer, ONE, batch_size=25)
    np.testing.assert_allclose(layer.running_mean, x.mean(axis=0), rtol=1e-14)
    assert layer.num_batches_tracked == 5
