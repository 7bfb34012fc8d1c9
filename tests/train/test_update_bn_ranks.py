"""Population statistics over ranks."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import BatchNorm, SerialComm, SyncBatchNorm, SyncMismatchError
from syncbn.nn import Dense, ReLU, Sequential
from syncbn.train import shard, update_bn

pytestmark = pytest.mark.ranks


def network(norm):
    rng = np.random.default_rng(3)
    return Sequential(
        norm(4), Dense(4, 6, rng=rng, dtype=np.float64), norm(6), ReLU(), Dense(6, 2, rng=rng, dtype=np.float64)
    )


@pytest.fixture
def x(rng):
    return rng.standard_normal((53, 4)) * np.array([1e-3, 1, 10, 1e3]) + 5


def assert_equal_on_all(comm, model):
    ours = {name: array.tobytes() for name, array in model.state_dict().items()}
    assert all(theirs == ours for theirs in comm.allgather(ours))


def test_synchronized_layers_have_the_statistics_of_one_process(comm, x):
    sync, whole = (
        network(lambda c, comm=comm: SyncBatchNorm(c, comm=comm, dtype=np.float64)),
        network(lambda c: BatchNorm(c, dtype=np.float64)),
    )
    update_bn(x, sync, comm, batch_size=9)
    update_bn(x, whole, SerialComm(), batch_size=9)
    assert_equal_on_all(comm, sync)
    np.testing.assert_array_equal(sync[0].running_mean, whole[0].running_mean)
    np.testing.assert_array_equal(sync[0].running_var, whole[0].running_var)
    assert sync[0].num_batches_tracked == 6
    np.testing.assert_allclose(sync[2].running_mean, whole[2].running_mean, rtol=1e-10)
    np.testing.assert_allclose(sync[2].running_var, whole[2].running_var, rtol=1e-10)


def test_local_layers_have_the_statistics_of_all_ranks(comm, x):
    model = network(lambda c: BatchNorm(c, dtype=np.float64))
    update_bn(x, model, comm, batch_size=18)
    assert_equal_on_all(comm, model)
    np.testing.assert_allclose(model[0].running_mean, x.mean(axis=0), rtol=1e-11)
    np.testing.assert_allclose(model[0].running_var, x.var(axis=0, ddof=1), rtol=1e-11)
    assert model[0].num_batches_tracked == 3 * comm.size
    alone = network(lambda c: BatchNorm(c, dtype=np.float64))
    update_bn(x[shard(len(x), comm.rank, comm.size)], alone, SerialComm(), batch_size=18)
    same = np.allclose(alone[0].running_mean, model[0].running_mean, rtol=1e-6)
    assert same == (comm.size == 1)


def test_ranks_that_do_not_share_the_samples(comm, x):
    if comm.size == 1:
        pytest.skip("needs another rank")
    layer = SyncBatchNorm(4, comm=comm, dtype=np.float64)
    with pytest.raises(ValueError, match=rf"synchronized over {comm.size} ranks, but comm has 1"):
        update_bn(x, layer, SerialComm())
    assert layer.num_batches_tracked == 0


def test_an_error_in_a_group_reaches_all_ranks(comm, x):
    """The ranks of the group raise, and ranks of other groups, which wait for them, do too."""
    with comm.split(2) as group:
        layer = SyncBatchNorm(4, comm=group, dtype=np.float64)
        batches = [x[:6, :3] if comm.rank == 0 else x[:6]]
        with pytest.raises(ValueError if comm.rank == 0 else SyncMismatchError, match="must have 4 channels"):
            update_bn(batches, layer, comm)
        comm.barrier()
        assert layer.num_batches_tracked == 0


def test_groups_of_ranks_count_once(comm, x):
    with comm.split(2) as group:
        layer = SyncBatchNorm(4, comm=group, dtype=np.float64)
        update_bn(x, layer, comm, batch_size=18)
        np.testing.assert_allclose(layer.running_var, x.var(axis=0, ddof=1), rtol=1e-11)
        assert layer.num_batches_tracked == 3 * -(-comm.size // 2)


def test_loaders_of_other_lengths(comm, x):
    sync = SyncBatchNorm(4, comm=comm, dtype=np.float64)
    own = x[shard(len(x), comm.rank, comm.size)]
    step = 3 + comm.rank
    update_bn(((own[i : i + step], "label") for i in range(0, len(own), step)), sync, comm)
    np.testing.assert_allclose(sync.running_mean, x.mean(axis=0), rtol=1e-11)
    np.testing.assert_allclose(sync.running_var, x.var(axis=0, ddof=1), rtol=1e-11)
    assert_equal_on_all(comm, sync)


def broken(x):
    yield x[:5]
    raise OSError("disk")


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize(
    ("loader", "error", "text"),
    [
        (broken, OSError, "disk"),
        (lambda x: [x[:5], x[:5, :3]], ValueError, "must have 4 channels"),
        (lambda _x: [], ValueError, "no batch on this rank"),
        (lambda x: [x[:5], 7], TypeError, "NumPy array"),
    ],
)
def test_an_error_of_one_rank_is_raised_on_all_and_changes_nothing(comm, x, sync, loader, error, text):
    if comm.size == 1:
        pytest.skip("no other rank")
    model = network(lambda c: SyncBatchNorm(c, comm=comm) if sync else BatchNorm(c))
    before = model.state_dict()
    culprit = comm.size - 1
    batches = loader(x) if comm.rank == culprit else [x[:5], x[5:10]]
    with pytest.raises(error if comm.rank == culprit else SyncMismatchError, match=text):
        update_bn(batches, model, comm)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    update_bn(x, model, comm, batch_size=26)


def test_arguments_that_differ(comm, x):
    if comm.size == 1:
        pytest.skip("one rank agrees with itself")
    with pytest.raises(ValueError, match="update_bn: batch_size is 9 on rank 0, but 8"):
        update_bn(x, BatchNorm(4), comm, batch_size=9 - (comm.rank == comm.size - 1))
