"""In one process: the files of checkpoints, which are written whole or not at all, and belong to one training."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from syncbn.train import CheckpointError


def finite(path):
    """Return whether all parameters of a checkpoint are finite."""
    with np.load(path) as arrays:
        return all(np.isfinite(value).all() for name, value in arrays.items() if name.startswith("model."))


def test_a_checkpoint_of_another_training_is_not_replaced_in_silence(build, data, tmp_path):
    path = tmp_path / "run.npz"
    first, second = build("none"), build("none")
    first.fit(*data, 1, checkpoint=path)
    with pytest.warns(
        RuntimeWarning, match=r"run\.npz exists, and .* replaces it: .* trainer\.resume\(path\) before fit"
    ):
        second.fit(*data, 1, checkpoint=path)
    second.fit(*data, 2, checkpoint=path)  # its own file: no warning
    with pytest.warns(
        RuntimeWarning, match=r"run\.npz: another program has replaced it .* a file of its own"
    ) as caught:
        first.save(path)
    assert [Path(warning.filename).name for warning in caught] == [Path(__file__).name]
    first.save(path)


def test_a_checkpoint_that_was_resumed_from_is_replaced_without_a_warning(build, data, tmp_path):
    path = tmp_path / "run.npz"
    build("none").fit(*data, 1, checkpoint=path)
    resumed = build("none")
    resumed.resume(path)
    resumed.fit(*data, 2, checkpoint=path)
    build("none").save(path)
    with pytest.warns(RuntimeWarning, match="another program has replaced it"):
        resumed.fit(*data, 3, checkpoint=path)


@pytest.mark.parametrize("when", ["read", "write"])
def test_a_fifo_is_neither_read_nor_replaced(build, tmp_path, when):
    path = tmp_path / "run.npz"
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match=r"run\.npz: .*not a regular file"):
        build().resume(path) if when == "read" else build().save(path)
    assert path.is_fifo()


def test_the_target_of_a_link_is_saved_and_resumed(build, data, state, tmp_path):
    (tmp_path / "scratch").mkdir()
    link = tmp_path / "run.npz"
    link.symlink_to(Path("scratch") / "of-this-run.npz")
    trainer, other = build(), build(seed=5)
    trainer.fit(*data, 2, checkpoint=link)
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["of-this-run.npz"]
    other.resume(link)
    assert state(other) == state(trainer)


def test_a_checkpoint_that_cannot_be_written(build, data, state, tmp_path):
    trainer, whole = build(), build()
    with pytest.raises(CheckpointError, match=r"run\.npz: can't be written \(there is no directory .*absent\)"):
        trainer.fit(*data, 2, checkpoint=tmp_path / "absent" / "run.npz", checkpoint_steps=3)
    assert (trainer.position.epoch, trainer.position.step) == (0, 0)
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match=r"folder: can't be written"):
        trainer.fit(*data, 2, checkpoint=tmp_path / "folder", checkpoint_steps=3)
    assert (trainer.position.epoch, trainer.position.step) == (0, 3)
    trainer.fit(*data, 2, checkpoint=tmp_path / "run.npz")
    whole.fit(*data, 2)
    assert state(trainer) == state(whole)


@pytest.mark.parametrize("steps", [None, 1])
def test_the_last_finite_checkpoint_is_kept(build, data, tmp_path, steps):
    trainer, path = build(), tmp_path / "run.npz"
    trainer.fit(*data, 2, checkpoint=path)
    kept = path.read_bytes()
    trainer.model[0].weight.data[0, 0] = np.nan
    text = (
        rf"since epoch 3, the loss or a parameter is not finite \(loss nan\).*rate \(0\.1\); {path} remains as it was"
    )
    with pytest.warns(RuntimeWarning, match=text) as caught:
        trainer.fit(*data, 4, checkpoint=path, checkpoint_steps=steps)
    assert [Path(warning.filename).name for warning in caught] == [Path(__file__).name]
    assert path.read_bytes() == kept
    trainer.save(path)
    assert not finite(path)


def test_parameters_that_are_not_finite_after_the_last_step(build, data, tmp_path):
    """The losses of all steps are finite, so only the parameters show it."""
    path = tmp_path / "run.npz"
    trainer = build()

    def lose(progress):
        if progress.step == progress.steps:
            trainer.model[0].weight.data[0, 0] = np.inf

    with pytest.warns(RuntimeWarning, match=r"since epoch 1, .* \(loss \d\.\d+\)"):
        trainer.fit(*data, 1, checkpoint=path, on_step=lose)
    assert not path.exists()
