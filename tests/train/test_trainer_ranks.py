"""On ranks: training is that of one process with the same global batch, and errors reach everybody."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import MPIComm, SyncMismatchError
from syncbn.comm import SerialComm
from syncbn.nn import SGD, Dense, Sequential
from syncbn.train import CheckpointError, Position, Trainer, evaluate

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
    with pytest.raises(CheckpointError, match="can't be written"):
        trainer.fit(*data, 2, checkpoint=shared_path / "absent" / "run.npz", checkpoint_steps=3)
    assert comm.allgather(trainer.position.step) == [3] * comm.size
    trainer.fit(*data, 2)
    whole.fit(*data, 2)
    assert state(trainer) == state(whole)


class FailsOnce(Sequential):
    """Raises on one rank, before or after its synchronized layer, once."""

    def __init__(self, *layers, error, when):
        super().__init__(*layers)
        self.error, self.when = error, when

    def forward(self, x):
        if self.training:
            self._fail("forward")
        y, inner = super().forward(x)
        self._fail("after forward")

        def backward(dy):
            self._fail("backward")
            return inner(dy)

        return y, backward

    def _fail(self, now):
        if self.error is not None and self.when == now:
            error, self.error = self.error, None
            raise error


@pytest.mark.parametrize("norm", ["ln", "syncbn"])
@pytest.mark.parametrize("when", ["forward", "after forward", "backward"])
@pytest.mark.parametrize("culprit", [0, -1])
def test_an_error_of_one_rank_reaches_all(comm, build, data, norm, when, culprit):
    culprit %= comm.size
    error = KeyError("broken") if comm.rank == culprit else None
    model = FailsOnce(*build(norm, comm).model, error=error, when=when)
    trainer = Trainer(model, SGD(model.parameters(), 0.1), comm, batch_per_rank=4)
    if comm.rank == culprit:
        with pytest.raises(KeyError, match="broken"):
            trainer.fit(*data, 1)
    else:
        with pytest.raises(SyncMismatchError, match=f"rank {culprit} had bad input: .*broken"):
            trainer.fit(*data, 1)
    trainer.fit(*data, 1)
    assert len(trainer.history) == 1


class Spoils(Sequential):
    """Leaves a gradient of a wrong shape."""

    def forward(self, x):
        y, inner = super().forward(x)

        def backward(dy):
            dx = inner(dy)
            self.parameters()[0].grad = np.zeros((7, 7, 7), np.float32)
            return dx

        return y, backward


def test_a_gradient_of_a_wrong_shape_on_one_rank_reaches_all(comm, build, data):
    culprit = comm.size - 1
    model = (Spoils if comm.rank == culprit else Sequential)(*build("syncbn", comm).model)
    trainer = Trainer(model, SGD(model.parameters(), 0.1), comm, batch_per_rank=4)
    expected, text = (
        (ValueError, "") if comm.rank == culprit else (SyncMismatchError, f"rank {culprit} had bad input: .*")
    )
    with pytest.raises(expected, match=text + "could not broadcast"):
        trainer.fit(*data, 1)


@pytest.mark.parametrize("norm", ["ln", "syncbn"])
@pytest.mark.parametrize("step", [1, 5])
def test_an_error_in_a_callback_of_one_rank_reaches_all(comm, build, data, norm, step):
    def fail(progress):
        if comm.rank == comm.size - 1 and progress.step == step:
            raise OSError("terminal gone")

    trainer = build(norm, comm)
    with pytest.raises(OSError if comm.rank == comm.size - 1 else SyncMismatchError, match="terminal gone"):
        trainer.fit(*data, 1, on_step=fail)
    trainer.fit(*data, 1)
    with pytest.raises(OSError if comm.rank == comm.size - 1 else SyncMismatchError, match="the last epoch"):
        trainer.fit(*data, 2, on_epoch=lambda _: fail_on_last(comm))
    assert len(trainer.history) == 2


def fail_on_last(comm):
    if comm.rank == comm.size - 1:
        raise OSError("the last epoch")


def test_bad_input_of_one_rank_reaches_all(comm, build, data):
    x, y = data
    trainer = build("syncbn", comm)
    if comm.size == 1:
        pytest.skip("needs another rank")
    mine = comm.rank == 1
    expected = ValueError if mine else SyncMismatchError
    with pytest.raises(expected, match="labels of shape"):
        trainer.fit(x, y[1:] if mine else y, 1)
    with pytest.raises(expected, match="labels of shape"):
        trainer.evaluate(x, y[1:] if mine else y)
    with pytest.raises(expected, match="label 9 of sample"):
        trainer.evaluate(x, np.full_like(y, 9) if mine else y)
    with pytest.raises(ValueError if mine else SyncMismatchError, match="batch_per_rank must be"):
        build("syncbn", comm, batch_per_rank=0 if mine else 2)
    trainer.fit(x, y, 1, validation_data=data)


def test_one_sample_per_rank_of_local_batch_normalization(comm, build, data):
    x, y = data
    trainer = build("bn", comm, batch_per_rank=1)
    with pytest.raises((ValueError, SyncMismatchError), match="more than 1 value per channel"):
        trainer.fit(x, y, 1)


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


@pytest.mark.parametrize("mistake", ["save", "resume", "checkpoint", "samples"])
def test_a_bad_argument_of_one_rank_reaches_all(comm, build, data, mistake):
    trainer, culprit = build("syncbn", comm), comm.size - 1
    bad = None if comm.rank == culprit else "run.npz"
    calls = {
        "save": lambda: trainer.save(bad),
        "resume": lambda: trainer.resume(bad, missing_ok=True),
        "checkpoint": lambda: trainer.fit(*data, 1, checkpoint=3 if comm.rank == culprit else "run.npz"),
        "samples": lambda: trainer.evaluate([[1.0], [1.0, 2.0]] if comm.rank == culprit else data[0], data[1]),
    }
    with pytest.raises(TypeError if comm.rank == culprit else SyncMismatchError):
        calls[mistake]()
    trainer.fit(*data, 1)


def test_ranks_that_have_done_other_steps_are_found(comm, build, data, shared_path):
    trainer = build("syncbn", comm)
    trainer.fit(*data, 1)
    if comm.size == 1:
        return
    if comm.rank == 1:
        trainer.position = Position(0, 4)  # as if interrupted after the sum of the gradients
    for call in (lambda: trainer.save(shared_path / "run.npz"), lambda: trainer.fit(*data, 2)):
        with pytest.raises(ValueError, match="epochs done is 1 on rank 0, but 0 on rank 1"):
            call()
    assert not (shared_path / "run.npz").exists()


@pytest.mark.parametrize("norm", ["ln", "bn", "syncbn"])
@pytest.mark.parametrize("when", ["after forward", "backward"])
def test_a_step_that_fails_on_one_rank_is_undone_on_all(comm, build, data, state, norm, when):
    if norm == "bn" and comm.size > 3:
        return  # ranks of 3 samples in batches of 12, and of 1 or 2 in the last one
    error = KeyError("broken") if comm.rank == comm.size - 1 else None
    options = {"batch_per_rank": 12 // comm.size, "drop_last": True}
    trainers = []
    for failing in (error, None):
        model = FailsOnce(*build(norm, comm).model, error=failing, when=when)
        trainers.append(Trainer(model, SGD(model.parameters(), 0.1), comm, **options))
    with pytest.raises(KeyError if error else SyncMismatchError):
        trainers[0].fit(*data, 1)
    for trainer in trainers:
        trainer.fit(*data, 1)
    assert state(trainers[0]) == state(trainers[1])
