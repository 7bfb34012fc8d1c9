"""Errors of one rank during training, which all ranks raise."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import SyncMismatchError
from syncbn.nn import SGD, Sequential
from syncbn.train import Position, Trainer

pytestmark = pytest.mark.ranks


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
        with pytest.raises(SyncMismatchError, match=f"rank {culprit} raised KeyError: .*broken"):
            trainer.fit(*data, 1)
    trainer.fit(*data, 1)
    assert len(trainer.history) == 1


class Spoils(Sequential):
    """Leaves a gradient of a wrong shape."""

    def forward(self, x):
        y, inner = super().forward(x)

        def backward(dy):
            dx = inner(dy)
            next(self.parameters()).grad = np.zeros((7, 7, 7), np.float32)
            return dx

        return y, backward


def test_a_gradient_of_a_wrong_shape_on_one_rank_reaches_all(comm, build, data):
    culprit = comm.size - 1
    model = (Spoils if comm.rank == culprit else Sequential)(*build("syncbn", comm).model)
    trainer = Trainer(model, SGD(model.parameters(), 0.1), comm, batch_per_rank=4)
    expected, text = (
        (ValueError, "") if comm.rank == culprit else (SyncMismatchError, f"rank {culprit} had bad input: .*")
    )
    with pytest.raises(expected, match=text + r"gradient of shape \(7, 7, 7\) for a parameter"):
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
