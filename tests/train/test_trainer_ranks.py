"""Training on ranks, against one process with the same global batch."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from syncbn import MPIComm
from syncbn.comm import SerialComm
from syncbn.nn import SGD, Dense, Sequential
from syncbn.train import CheckpointError, Trainer, evaluate

pytestmark = pytest.mark.ranks

RTOL = 1e-9  # float64 over some dozens of steps: roundings of BLAS and of sums over ranks


def distance(one, other):
    """Return the largest relative difference over all arrays of two models."""
    states = [trainer.model.state_dict() for trainer in (one, other)]
    return max(np.abs(states[0][name] - states[1][name]).max() / np.abs(states[1][name]).max() for name in states[0])


@pytest.mark.parametrize("norm", ["none", "ln", "syncbn"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_ranks_train_as_one_process_does(comm, build, data, norm, optimizer):
    # The last batch has 7 samples: uneven shares on every number of ranks.
    together = build(norm, comm, optimizer, seed=comm.rank)
    alone = build(norm, SerialComm(), optimizer, batch_per_rank=12)
    ours = together.fit(*data, 3, validation_data=data)
    theirs = alone.fit(*data, 3, validation_data=data)
    assert distance(together, alone) < RTOL
    for one, other in zip(ours, theirs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=RTOL)
        assert one.test_loss == pytest.approx(other.test_loss, rel=RTOL)
        assert one.test_error == other.test_error
    assert comm.allgather(ours[-1].train_loss) == [ours[-1].train_loss] * comm.size
    assert (ours[0].bytes_sent > 0) == (comm.bytes_sent > 0)


def test_local_batch_normalization_does_not(comm, build, data):
    x, y = data[0][:48], data[1][:48]
    together, alone = build("bn", comm), build("bn", SerialComm(), batch_per_rank=12)
    together.fit(x, y, 3)
    alone.fit(x, y, 3)
    assert (distance(together, alone) > 1e-3) == (comm.size > 1)


@pytest.mark.parametrize(("norm", "samples"), [("ln", 1), ("syncbn", 3)])
def test_ranks_without_samples(comm, build, data, norm, samples):
    x, y = data[0][:samples], data[1][:samples]
    together, alone = build(norm, comm), build(norm, SerialComm())
    for trainer in (together, alone):
        trainer.fit(x, y, 4, validation_data=(x, y))
    assert distance(together, alone) < RTOL
    assert together.history[-1].test_error == alone.history[-1].test_error
    assert together.position.epoch == 4


def test_gradients_are_those_of_the_mean_over_the_global_batch(comm, data):
    x, y = data[0][:7], data[1][:7]
    rng = np.random.default_rng(0)
    model = Sequential(Dense(6, 3, rng=rng, dtype=np.float64))
    start = model[0].weight.data.copy()
    Trainer(model, SGD(model.parameters(), 1.0), comm, batch_per_rank=7).fit(x, y, 1)
    logits = x @ start.T
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gradients = (softmax - np.eye(3)[y])[:, :, None] * x[:, None, :]
    np.testing.assert_allclose(start - model[0].weight.data, gradients.mean(axis=0), rtol=1e-12, atol=1e-14)
    means = [part.mean(axis=0) for part in np.array_split(gradients, comm.size)]
    wrong = np.abs(np.mean(means, axis=0) - gradients.mean(axis=0)).max()
    assert (wrong > 1e-3) == (comm.size > 1)


def test_the_wire_has_the_dtype_that_was_asked_for(comm, build, data):
    wide, plain, narrow = (build("ln", comm, wire_dtype=dtype) for dtype in (np.float64, None, np.float32))
    for trainer in (wide, plain, narrow):
        trainer.fit(*data, 2)
    assert distance(wide, plain) == 0
    assert 0 < distance(narrow, plain) < 1e-5


def test_evaluation_takes_rank_0s_statistics_and_gives_them_back(comm, build, data):
    x, y = data
    model = build("bn", comm).model
    model(x[comm.rank :: comm.size] * (1 + comm.rank))
    own = model.state_dict()
    alone = evaluate(model, x, y, SerialComm())
    losses = comm.allgather(alone.loss)
    assert (len(set(losses)) > 1) == (comm.size > 1)
    together = evaluate(model, x, y, comm, batch_size=5)
    assert together.loss == pytest.approx(losses[0], rel=1e-12)
    assert comm.allgather(together) == [together] * comm.size
    assert evaluate(model, x[:1], y[:1], comm).samples == 1
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, own[name])
    assert model.training


@pytest.mark.parametrize("norm", ["bn", "syncbn", "ln"])
def test_a_resumed_training_has_the_same_bits_on_every_rank(comm, build, data, state, shared_path, norm):
    x, y = data[0][:48], data[1][:48]
    path = shared_path / "run.npz"
    whole, broken = build(norm, comm), build(norm, comm)
    whole.fit(x, y, 3, validation_data=data)

    def stop(progress):
        if (progress.epoch, progress.step) == (2, 3):
            raise InterruptedError("here")

    with pytest.raises(InterruptedError):
        broken.fit(x, y, 3, validation_data=data, checkpoint=path, checkpoint_steps=1, on_step=stop)
    resumed = build(norm, comm, seed=5)
    assert resumed.resume(path if comm.rank == 0 else "only rank 0 reads")
    assert state(resumed) == state(broken) != state(whole)
    resumed.fit(x, y, 3, validation_data=data)
    assert state(resumed) == state(whole)
    means = comm.allgather(state(whole).get("model 1.running_mean"))
    assert (len(set(means)) > 1) == (norm == "bn" and comm.size > 1)


def test_resuming_on_another_number_of_ranks(comm, build, data, shared_path):
    path = shared_path / "run.npz"
    whole, first = build("syncbn", comm), build("bn", comm)
    x, y = data[0][:48], data[1][:48]
    first.fit(x, y, 1, checkpoint=path)
    alone = build("bn", SerialComm(), batch_per_rank=12, seed=5)
    alone.resume(path)
    rank_0 = comm.allgather(first.model.state_dict())[0]
    for name, value in alone.model.state_dict().items():
        np.testing.assert_array_equal(value, rank_0[name])
    # And back: one process begins, all ranks go on as one process would.
    alone = build("syncbn", SerialComm(), batch_per_rank=12)
    alone.fit(x, y, 1)
    alone.save(shared_path / f"alone-{comm.rank}.npz")
    whole.resume(shared_path / "alone-0.npz")
    whole.fit(x, y, 3)
    alone.fit(x, y, 3)
    assert distance(whole, alone) < RTOL


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "foreign", "other choices"])
def test_a_checkpoint_that_cannot_be_read_raises_on_all_and_changes_nothing(
    comm, build, data, state, shared_path, damage
):
    path = shared_path / "run.npz"
    trainer = build("bn", comm, drop_last=damage == "other choices")
    trainer.fit(data[0][:48], data[1][:48], 1, checkpoint=path)
    if comm.rank == 0:
        if damage == "missing":
            path.unlink()
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[:-100])
        elif damage == "flipped":
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 16
            path.write_bytes(content)
        elif damage == "foreign":
            np.savez(path, weights=np.zeros(3))
    comm.barrier()
    other = build("bn", comm, seed=3)
    before = state(other)
    with pytest.raises(CheckpointError, match=r"run\.npz: "):
        other.resume(path)
    assert state(other) == before
    other.save(path)
    assert other.resume(path)


def test_a_checkpoint_that_cannot_be_written_raises_on_all(comm, build, data, state, shared_path):
    trainer, whole = build("syncbn", comm), build("syncbn", comm)
    with pytest.raises(CheckpointError, match=r"run\.npz: can't be written \(there is no directory .*absent\)"):
        trainer.fit(*data, 2, checkpoint=shared_path / "absent" / "run.npz", checkpoint_steps=3)
    assert comm.allgather(trainer.position.step) == [0] * comm.size
    with pytest.raises(CheckpointError, match="can't be written"):
        trainer.fit(*data, 2, checkpoint=shared_path, checkpoint_steps=3)
    assert comm.allgather(trainer.position.step) == [3] * comm.size
    trainer.fit(*data, 2)
    whole.fit(*data, 2)
    assert state(trainer) == state(whole)


def test_bytes_of_groups_are_counted(comm, build, data):
    group = comm.split(2)
    try:
        trainer = build("syncbn", group, batch_per_rank=4)
        trainer = Trainer(trainer.model, trainer.optimizer, comm, batch_per_rank=4)
        x, y = data[0][: 4 * comm.size], data[1][: 4 * comm.size]
        before = comm.bytes_sent, group.bytes_sent
        (record,) = trainer.fit(x, y, 1)
        assert record.bytes_sent <= comm.bytes_sent - before[0] + group.bytes_sent - before[1]
        assert record.bytes_sent > group.bytes_sent - before[1] > 0
    finally:
        group.free()


def test_default_communicator(comm, build):
    model = build("none", comm).model
    trainer = Trainer(model, SGD(model.parameters(), 0.1), batch_per_rank=2)
    assert isinstance(trainer.comm, MPIComm)
    assert trainer.global_batch == 2 * comm.size


def test_rank_0_warns_of_divergence_and_all_keep_the_last_finite_checkpoint(comm, build, data, shared_path):
    trainer, path = build("syncbn", comm), shared_path / "run.npz"
    trainer.fit(*data, 1, checkpoint=path)
    kept = path.read_bytes()
    for parameter in trainer.model.parameters():
        parameter.data[...] = np.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(*data, 3, checkpoint=path, checkpoint_steps=2)
    assert ["since epoch 2" in str(warning.message) for warning in caught] == [True] * (comm.rank == 0)
    comm.barrier()
    assert path.read_bytes() == kept
