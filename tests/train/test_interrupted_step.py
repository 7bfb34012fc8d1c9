"""A step that is interrupted at any point is undone, or what follows is refused; nothing is saved half done."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn.comm import SerialComm
from syncbn.nn import SGD, Sequential
from syncbn.train import Trainer


class Interrupted(Sequential):
    """Raises once, at its n-th forward: before, after, or in the backward."""

    def __init__(self, *layers, error, when, after):
        super().__init__(*layers)
        self.error, self.when, self.after = error, when, after

    def forward(self, x):
        self.after -= 1
        self._fail("forward")
        y, inner = super().forward(x)
        self._fail("after forward")

        def backward(dy):
            self._fail("backward")
            dx = inner(dy)
            self._fail("after backward")
            return dx

        return y, backward

    def _fail(self, now):
        if self.error is not None and self.when == now and self.after < 0:
            error, self.error = self.error, None
            raise error


def trainer_of(build, model=None, optimizer=SGD, **options):
    model = build("bn").model if model is None else model
    return Trainer(model, optimizer(model.parameters(), 0.1, 0.9), SerialComm(), batch_per_rank=12, **options)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("when", ["forward", "after forward", "backward", "after backward"])
@pytest.mark.parametrize("after", [0, 3, 5, 7])
def test_an_interrupted_step_is_undone(build, data, state, tmp_path, error, when, after):
    whole = trainer_of(build)
    whole.fit(*data, 2)
    model = Interrupted(*build("bn").model, error=error, when=when, after=after)
    trainer = trainer_of(build, model)
    with pytest.raises(error):
        trainer.fit(*data, 2)
    steps = trainer.position.epoch * 5 + trainer.position.step
    assert model[1].num_batches_tracked == steps == after
    trainer.save(tmp_path / "run.npz")
    resumed = trainer_of(build)
    resumed.resume(tmp_path / "run.npz")
    for each in (trainer, resumed):
        each.fit(*data, 2)
        assert state(each) == state(whole)


class Torn(SGD):
    """Is interrupted once, between the updates of two parameters."""

    interrupted = False

    def _update(self, position, grad):
        if position == 2 and not Torn.interrupted and self.armed:
            Torn.interrupted = True
            raise KeyboardInterrupt
        return super()._update(position, grad)

    armed = False


def test_an_interrupted_update_is_refused(build, data, state, tmp_path):
    Torn.interrupted = False
    trainer, path = trainer_of(build, optimizer=Torn), tmp_path / "run.npz"
    trainer.fit(*data, 1, checkpoint=path)
    saved = path.read_bytes()
    trainer.optimizer.armed = True
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(*data, 2)
    for refused in (lambda: trainer.save(path), lambda: trainer.fit(*data, 2)):
        with pytest.raises(RuntimeError, match="an optimizer step was interrupted: resume from a checkpoint"):
            refused()
    assert path.read_bytes() == saved
    trainer.resume(path)
    whole = trainer_of(build)
    for each in (trainer, whole):
        each.fit(*data, 2)
    del trainer.optimizer.armed
    assert state(trainer) == state(whole)


def test_an_interrupt_after_a_record_does_not_repeat_it(build, data, tmp_path):
    trainer = trainer_of(build)
    trainer.fit(*data, 1)
    trainer.history.append(trainer.history[-1])  # as if the interrupt came before the position was set
    trainer.save(tmp_path / "run.npz")
    assert trainer_of(build).resume(tmp_path / "run.npz")
    trainer.fit(*data, 2)
    assert [record.epoch for record in trainer.history] == [1, 2]
    assert np.isfinite(trainer.history[-1].train_loss)
