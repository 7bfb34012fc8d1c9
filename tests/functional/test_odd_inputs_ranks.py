"""One rank comes with something odd: it hears what is wrong, the others hear which rank it was, and all go on."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from odd_arrays import MEMORY, OTHERS

from syncbn import BatchNorm, SerialComm, SyncBatchNorm, SyncMismatchError
from syncbn import functional as F
from syncbn.nn import Dense, Sequential

pytestmark = pytest.mark.ranks

SHAPE = (4, 3, 2)
ODD = [np.zeros(SHAPE, dtype) for dtype in OTHERS] + [np.zeros(SHAPE).tolist(), None, "x", 1.5, object()]
names = [str(getattr(odd, "dtype", type(odd).__name__)) for odd in ODD]


@pytest.fixture
def culprit(comm) -> int:
    return comm.size - 1


def raises(comm, culprit: int, error: type[Exception], text: str) -> Any:
    if comm.rank == culprit:
        return pytest.raises(error, match=text)
    what = "had bad input" if error in (ValueError, TypeError) else f"raised {error.__name__}"
    return pytest.raises(SyncMismatchError, match=f"rank {culprit} {what}: .*{text}")


@pytest.mark.parametrize("odd", ODD, ids=names)
def test_of_another_type(comm, rng, culprit, odd):
    good = rng.standard_normal(SHAPE)
    mine = odd if comm.rank == culprit else good
    with raises(comm, culprit, TypeError, "x must"):
        F.batch_norm(mine, comm=comm)
    y, _, backward = F.batch_norm(good, comm=comm)
    with raises(comm, culprit, TypeError, "dy must"):
        backward(mine)
    np.testing.assert_array_equal(backward(good)[0], F.batch_norm(good, comm=comm)[2](good)[0])

    layer = SyncBatchNorm(3, comm=comm)
    before = {name: array.tobytes() for name, array in layer.state_dict().items()}
    with raises(comm, culprit, TypeError, "x must"):
        layer(mine)
    assert {name: array.tobytes() for name, array in layer.state_dict().items()} == before
    np.testing.assert_array_equal(layer(good)[0], y)
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize("odd", [np.zeros(3, dtype) for dtype in OTHERS], ids=OTHERS)
@pytest.mark.parametrize("argument", ["weight", "bias"])
def test_parameters_of_another_type(comm, rng, culprit, argument, odd):
    good = {"x": rng.standard_normal(SHAPE), "weight": np.ones(3), "bias": np.ones(3), "comm": comm}
    with raises(comm, culprit, TypeError, f"{argument} must"):
        F.batch_norm(**{**good, **({argument: odd} if comm.rank == culprit else {})})
    assert F.batch_norm(**good)[1].count == 8 * comm.size


class Unwilling:
    """Gives no array, and an error that no check expects."""

    def __array__(self, *_args: object, **_options: object) -> np.ndarray:
        raise RuntimeError("not today")


def test_an_error_that_nobody_expects(comm, rng, culprit):
    good = rng.standard_normal(SHAPE)
    with raises(comm, culprit, RuntimeError, "not today"):
        F.batch_norm(good, mask=Unwilling() if comm.rank == culprit else None, comm=comm)
    assert F.batch_norm(good, comm=comm)[1].count == 8 * comm.size


@pytest.mark.parametrize("memory", MEMORY)
def test_odd_memory_on_one_rank(comm, rng, culprit, memory):
    x = rng.standard_normal((2 * comm.size, 6, 4, 5))
    mine = slice(2 * comm.rank, 2 * comm.rank + 2)
    odd = MEMORY[memory](x[2 * culprit :])
    x[2 * culprit :] = odd  # "stride 0" has other values
    own = odd if comm.rank == culprit else x[mine]
    whole_y, whole, whole_backward = F.batch_norm(x)
    y, moments, backward = F.batch_norm(own, comm=comm)
    np.testing.assert_array_equal(moments.var, whole.var)
    np.testing.assert_array_equal(y, whole_y[mine])
    np.testing.assert_array_equal(backward(own)[0], whole_backward(x)[0][mine])


def test_copies_of_layers_on_ranks(comm, rng):
    """A layer on a communicator isn't copied, nor what it is in; one that was built again takes its values."""
    x = rng.standard_normal((3, 4)).astype(np.float32)
    model = Sequential(Dense(4, 3, rng=rng), SyncBatchNorm(3, comm=comm))
    model(x)
    for clone in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"Build the layer again.*state_dict"):
            clone(model)
    again = Sequential(Dense(4, 3), SyncBatchNorm(3, comm=comm))
    again.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(again.eval()(x)[0], model.eval()(x)[0])
    np.testing.assert_array_equal(again.train()(x)[0], model.train()(x)[0])  # the failed copies have broken nothing


def test_copies_of_layers_without_ranks(rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    for layer in (BatchNorm(4), SyncBatchNorm(4, comm=SerialComm())):
        layer(x)
        copies = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
        y, _ = layer(x)
        for other in copies:
            assert other.num_batches_tracked == 1
            np.testing.assert_array_equal(other(x)[0], y)
            np.testing.assert_array_equal(other.running_var, layer.running_var)
            assert other.weight is not layer.weight
