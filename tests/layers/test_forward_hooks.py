"""Forward hooks: functions that each call of a module calls with its result."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import BatchNorm, MPIComm, SyncBatchNorm, SyncMismatchError, WeightNorm
from syncbn.nn import Dense, ReLU, ResidualBlock, Sequential


def test_a_hook_sees_the_module_the_arguments_and_the_result(rng):
    layer, x, mask, seen = BatchNorm(3), rng.standard_normal((4, 3)), np.arange(4) > 0, []
    handle = layer.register_forward_hook(lambda *found: seen.append(found))
    y, backward = layer(x, mask, relu=True)
    assert seen == [(layer, (x, mask), (y, backward))]
    handle.remove()
    handle.remove()
    layer(x)
    assert len(seen) == 1


def test_hooks_are_called_in_their_order_and_may_replace_the_result(rng):
    layer, x = ReLU(), rng.standard_normal((4, 3))
    with (
        layer.register_forward_hook(lambda _module, _arguments, result: (result[0] + 1, result[1])),
        layer.register_forward_hook(lambda _module, _arguments, result: (result[0] * 2, lambda dy: result[1](dy) * 3)),
    ):
        y, backward = layer(x)
    np.testing.assert_array_equal(y, (np.maximum(x, 0) + 1) * 2)
    np.testing.assert_array_equal(backward(x), 3 * np.maximum(x, 0))
    np.testing.assert_array_equal(layer(x)[0], np.maximum(x, 0))


def test_layers_inside_others_call_their_hooks(rng):
    model = Sequential(WeightNorm(Dense(4, 8)), ReLU(), Sequential(Dense(8, 2)))
    block = ResidualBlock(2, 3, 2, BatchNorm)
    for network, x in ((model, rng.standard_normal((5, 4))), (block, rng.standard_normal((2, 2, 4, 4)))):
        called = []
        for name, module in network.named_modules():
            module.register_forward_hook(lambda *_, name=name, called=called: called.append(name))
        network(x)
        assert sorted(called) == sorted(name for name, _ in network.named_modules())


def test_an_error_of_a_hook_removes_it_at_the_end_of_its_block(rng):
    layer, x = ReLU(), rng.standard_normal((4, 3))

    def fail(*_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), layer.register_forward_hook(fail):
        layer(x)
    assert layer(x)[0].shape == x.shape


@pytest.mark.ranks
def test_an_error_of_a_hook_on_one_rank_is_raised_on_all(comm, rng):
    with MPIComm() as own:
        layer, x, culprit = SyncBatchNorm(3, comm=own), rng.standard_normal((4, 3)), own.size - 1

        def fail(*_):
            raise KeyError("mine")

        if comm.rank == culprit:
            layer.register_forward_hook(fail)
        layers = Sequential(layer, SyncBatchNorm(3, comm=own))
        with pytest.raises(KeyError if comm.rank == culprit else SyncMismatchError, match="mine"):
            layers(x)


def test_the_moments_of_the_last_batch_in_training(rng):
    layer, x = BatchNorm(3), rng.standard_normal((4, 3))
    assert layer.moments is None
    layer(x)
    layer.eval()(x + 1)
    assert layer.moments.count == 4
    np.testing.assert_allclose(layer.moments.mean, x.mean(axis=0), rtol=1e-12)
