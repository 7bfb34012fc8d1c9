from __future__ import annotations

import numpy as np
import pytest

from syncbn.comm import SerialComm
from syncbn.nn import SGD, Dense, Dropout, Sequential
from syncbn.train import Trainer


def dropout(p=0.5, seed=0):
    return Dropout(p, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_p_of_the_values_is_dropped(p):
    y, _ = dropout(p)(np.ones((500, 400)))
    dropped = np.mean(y == 0)
    assert abs(dropped - p) < 5 * np.sqrt(p * (1 - p) / y.size)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - p), rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_pass_where_values_are_kept(dtype, rng):
    x = np.moveaxis(rng.standard_normal((3, 4, 5, 2)).astype(dtype), -1, 1)
    dy = rng.standard_normal(x.shape).astype(dtype)
    y, backward = dropout(0.25)(x)
    dx = backward(dy)
    kept = y != 0
    assert 0 < kept.mean() < 1
    assert y.dtype == dx.dtype == dtype
    assert y.strides == x.strides
    np.testing.assert_allclose(y, np.where(kept, x / 0.75, 0), rtol=1e-6)
    np.testing.assert_allclose(dx, np.where(kept, dy / 0.75, 0), rtol=1e-6)


def test_each_forward_drops_other_values_and_a_seed_reproduces_them():
    layer, again = dropout(), dropout()
    x = np.ones((8, 8))
    ours = [layer(x)[0] for _ in range(3)]
    assert not np.array_equal(ours[0], ours[1])
    for y in ours:
        np.testing.assert_array_equal(again(x)[0], y)
    assert not np.array_equal(Dropout()(x)[0], Dropout()(x)[0])


def test_evaluation_changes_nothing():
    layer = dropout()
    state = layer.random_state.copy()
    layer.eval()
    x = np.arange(6.0).reshape(2, 3)
    y, backward = layer(x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(backward(x), x)
    np.testing.assert_array_equal(layer.random_state, state)


def test_limits():
    x = np.array([[1.0, np.inf, np.nan]])
    np.testing.assert_array_equal(dropout(0)(x)[0], x)
    y, backward = dropout(1)(x)
    np.testing.assert_array_equal(y, np.zeros((1, 3)))
    np.testing.assert_array_equal(backward(x), np.zeros((1, 3)))
    for p in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
            Dropout(p)
    with pytest.raises(TypeError, match="p must be a number, got None"):
        Dropout(None)
    with pytest.raises(TypeError, match="Dropout expects float32 or float64, got float16"):
        dropout()(np.ones(3, np.float16))


def test_the_state_is_a_buffer_but_not_in_state_dict():
    """PyTorch's Dropout has no state, so weights must move between the two."""
    model = Sequential(Dense(3, 2), dropout())
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
    assert [name for name, _ in model.named_buffers()] == ["1.random_state"]


class TestTraining:
    """A run that is interrupted and resumed has the bits of one that is not."""

    @pytest.fixture
    def problem(self, rng):
        x = rng.standard_normal((40, 6))
        return x, (x @ rng.standard_normal((6, 3))).argmax(axis=1)

    def trainer(self, seed=0):
        rng = np.random.default_rng(seed)
        model = Sequential(Dense(6, 16, rng=rng, dtype=np.float64), dropout(seed=seed), Dense(16, 3, dtype=np.float64))
        model[2].weight.data[...] = np.random.default_rng(1).standard_normal((3, 16))
        return Trainer(model, SGD(model.parameters(), 0.1), SerialComm(), batch_per_rank=8)

    def values(self, trainer):
        return [array.tobytes() for array in trainer.model.state_dict().values()]

    def test_resume(self, problem, tmp_path):
        whole, interrupted = self.trainer(), self.trainer()
        whole.fit(*problem, 2)
        with pytest.raises(KeyboardInterrupt):
            interrupted.fit(*problem, 2, checkpoint=tmp_path / "c", checkpoint_steps=2, on_step=self.interrupt)
        resumed = self.trainer(seed=5)
        resumed.resume(tmp_path / "c")
        resumed.fit(*problem, 2)
        assert self.values(resumed) == self.values(whole)
        without = self.trainer(seed=5)
        without.fit(*problem, 2)
        assert self.values(without) != self.values(whole)

    def interrupt(self, progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    def test_a_step_that_fails_draws_the_same_again(self, problem):
        trainer = self.trainer()
        x, y = problem
        y[0] = 7  # no such class: the loss raises, after the forward
        with pytest.raises(ValueError, match="label 7"):
            trainer.fit(x, y, 1)
        assert int(trainer.model[1].random_state[3]) == trainer.position.step < 5
