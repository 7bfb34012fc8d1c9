from __future__ import annotations

import math
import re
from contextlib import nullcontext

import numpy as np
import pytest

from syncbn import BatchNorm
from syncbn.comm import SerialComm
from syncbn.nn import SGD, CosineSchedule, Dense, Sequential, softmax_cross_entropy
from syncbn.pitfalls import see
from syncbn.train import DataOrder, Trainer, evaluate
from syncbn.train.shares import take_share


def test_training_is_the_plain_loop(build, data):
    x, y = data
    schedule = CosineSchedule(0.2, warmup_steps=3, total_steps=15)
    trainer, plain = build("bn", schedule=schedule, seed=4), build("bn")
    model = plain.model
    optimizer = SGD(model.parameters(), 0.5, momentum=0.9, nesterov=True, weight_decay=1e-3)
    model.load_state_dict(trainer.model.state_dict())
    trainer.fit(x, y, 3)
    order, losses, step = DataOrder(55, 12, 0), [], 0
    for epoch in range(3):
        total = 0.0
        for batch in order.batches(epoch):
            optimizer.lr = schedule(step)
            logits, backward = model(x[batch])
            loss, dlogits = softmax_cross_entropy(logits, y[batch])
            model.zero_grad()
            backward(dlogits)
            optimizer.step()
            step += 1
            total += loss * len(batch)
        losses.append(total / 55)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(trainer.model.state_dict()[name], value)
    np.testing.assert_allclose([record.train_loss for record in trainer.history], losses, rtol=1e-14)
    other = build("bn", schedule=schedule, seed=4)
    other = Trainer(other.model, other.optimizer, other.comm, schedule=schedule, seed=1, batch_per_rank=12)
    other.fit(x, y, 3)
    assert not np.array_equal(other.model[0].weight.data, model[0].weight.data)


def test_a_trainer_leaves_no_share_to_a_loop_that_follows(build, data):
    take_share()
    trainer = build()
    trainer.fit(*data, 1)
    trainer.evaluate(*(each[:7] for each in data))  # the size of the last batch
    assert take_share() is None


@pytest.mark.parametrize("norm", ["none", "bn", "syncbn", "ln"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_it_learns(build, data, norm, optimizer):
    trainer = build(norm, optimizer=optimizer)
    before = trainer.evaluate(*data)
    history = trainer.fit(*data, 15, validation_data=data)
    assert before.error > 0.4
    assert history[-1].test_error < 0.15
    assert history[-1].test_loss < before.loss / 2
    assert history[-1].train_loss < history[0].train_loss


def test_what_is_told(build, data):
    steps, records = [], []
    trainer = build(schedule=lambda step: 0.1 / (step + 1))
    history = trainer.fit(*data, 2, validation_data=data, on_step=steps.append, on_epoch=records.append)
    assert history == records == trainer.history
    assert [(p.epoch, p.step) for p in steps] == [(e, s) for e in (1, 2) for s in (1, 2, 3, 4, 5)]
    assert {(p.epochs, p.steps) for p in steps} == {(2, 5)}
    assert [p.samples for p in steps] == [12, 12, 12, 12, 7] * 2
    np.testing.assert_allclose([p.lr for p in steps], 0.1 / np.arange(1, 11))
    for record, part in zip(history, (steps[:5], steps[5:]), strict=True):
        mean = sum(p.loss * p.samples for p in part) / 55
        assert record.train_loss == pytest.approx(mean, rel=1e-14)
        assert record.seconds == pytest.approx(sum(p.seconds for p in part))
        assert record.lr == part[-1].lr
        assert record.steps == 5
    last = trainer.evaluate(*data)
    assert (history[-1].test_loss, history[-1].test_error) == (last.loss, last.error)
    assert [record.epoch for record in history] == [1, 2]


def test_epochs_are_counted_over_all_calls(build, data, state):
    once, twice = build(), build()
    once.fit(*data, 3)
    twice.fit(*data, 1)
    assert state(once) != state(twice)
    assert len(twice.fit(*data, 3)) == 3
    assert state(once) == state(twice)
    twice.fit(*data, 3)
    assert state(once) == state(twice)


def test_a_callback_may_evaluate(build, data, state):
    plain, evaluated = build("bn"), build("bn")
    errors = []
    evaluated.fit(*data, 2, on_step=lambda _: errors.append(evaluated.evaluate(*data).error))
    plain.fit(*data, 2)
    assert len(errors) == 10
    assert state(plain) == state(evaluated)


@pytest.mark.parametrize("step", [1, 5])
def test_an_error_in_a_callback_leaves_a_trainer_that_goes_on(build, data, state, step):
    def stop(progress):
        if progress.step == step:
            raise RuntimeError("stop here")

    trainer, whole = build(), build()
    with pytest.raises(RuntimeError, match="stop here"):
        trainer.fit(*data, 2, on_step=stop)
    assert (trainer.position.epoch, trainer.position.step) == (0, step)
    trainer.fit(*data, 2)
    whole.fit(*data, 2)
    assert state(trainer) == state(whole)


def test_frozen_parameters_stay(build, data):
    model = build().model
    start = model.state_dict()
    Trainer(model, SGD(model[-1].parameters(), 0.1), SerialComm()).fit(*data, 1)
    np.testing.assert_array_equal(model[0].weight.data, start["0.weight"])
    assert not np.array_equal(model[3].weight.data, start["3.weight"])


def test_evaluation_counts_and_changes_nothing(build, data):
    x, y = data
    model = build("bn").model
    model(x)
    model[1].eval()
    before = model.state_dict()
    results = {evaluate(model, x, y, SerialComm(), batch_size=size) for size in (7, 55, 1000)}
    assert [module.training for module in model] == [True, False, True, True]
    for name, value in before.items():
        np.testing.assert_array_equal(model.state_dict()[name], value)
    logits, _ = model.eval()(x)
    loss, _ = softmax_cross_entropy(logits, y)
    for result in results:
        assert result.error == (logits.argmax(axis=1) != y).mean()
        assert result.loss == pytest.approx(loss, rel=1e-12)
        assert result.samples == 55
    assert evaluate(model, x, (y + 1) % 3, SerialComm()).error != result.error


def test_a_diverged_loss_is_told_not_raised(build, data):
    x, y = data
    trainer = build("none")
    trainer.model[0].weight.data[0] = np.inf
    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning, match="training has diverged: since epoch 1"):
        (record,) = trainer.fit(x, y, 1, validation_data=data)
    assert not math.isfinite(record.train_loss)


def test_bad_arguments(build, data):
    x, y = data
    model = Sequential(Dense(6, 3))
    optimizer = SGD(model.parameters(), 0.1)
    for name, value in (("batch_per_rank", 0), ("seed", -1), ("check_every", 0)):
        with pytest.raises(ValueError, match=f"{name} must be at least ., got {value}"):
            Trainer(model, optimizer, SerialComm(), **{name: value})
    with pytest.raises(TypeError, match=r"batch_per_rank must be an integer, got 1\.5"):
        Trainer(model, optimizer, SerialComm(), batch_per_rank=1.5)
    with pytest.raises(ValueError, match="a Parameter that is not in the model"):
        Trainer(Sequential(Dense(6, 3)), optimizer, SerialComm())
    trainer = build(drop_last=True)
    with pytest.raises(ValueError, match="epochs must be at least 0, got -1"):
        trainer.fit(x, y, -1)
    with pytest.raises(ValueError, match=r"labels of shape \(N,\), got \(55, 6\) and \(54,\)"):
        trainer.fit(x, y[1:], 1)
    with pytest.raises(TypeError, match=r"schedule must be a function of the step, .* or None, got 0\.1"):
        Trainer(model, optimizer, SerialComm(), schedule=0.1)
    with pytest.raises(TypeError, match=r"got int64 and int64: convert samples, as by x\.astype\(.*#dtypes\)"):
        trainer.fit(x.astype(int), y, 1)
    with pytest.raises(TypeError, match="labels of integers, got float64 and float64"):
        trainer.fit(x, x[:, 0], 1)
    for given, text in ((x, "ndarray of length 55"), ((x, y, y), "tuple of length 3"), (3, r"int \(")):
        with pytest.raises(TypeError, match=rf"validation_data must be a pair \(x, y\) of .*, got {text}"):
            trainer.fit(x, y, 1, validation_data=given)
    with pytest.raises(ValueError, match="at least 12 samples, got 11"):
        trainer.fit(x[:11], y[:11], 1)
    with pytest.raises(ValueError, match="label 2 of sample"):
        Trainer(model := Sequential(Dense(6, 2, dtype=np.float64)), SGD(model.parameters(), 0.1), SerialComm()).fit(
            x, y, 1
        )
    with pytest.raises(ValueError, match="at least one sample"):
        trainer.evaluate(x[:0], y[:0])
    with pytest.raises(ValueError, match="batch_size must be"):
        trainer.evaluate(x, y, batch_size=0)


def test_going_on_with_other_data_is_refused(build, data, state):
    x, y = data
    trainer = build()
    trainer.fit(x, y, 1)
    before = state(trainer)
    with pytest.raises(ValueError, match=r"training data differ from those of the checkpoint: samples: .* crc32"):
        trainer.fit(x + 1, y, 2)
    with pytest.raises(ValueError, match="labels"):
        trainer.fit(x, y[::-1], 2)
    assert state(trainer) == before
    trainer.fit(x.copy(), y, 2)


def test_outputs_of_nan_are_right_about_nothing():
    dense = Dense(2, 3, dtype=np.float64)
    x, y = np.ones((4, 2)), np.array([0, 0, 1, 2])
    x[:2] = np.nan
    dense.weight.data[...] = [[0, 0], [1, 1], [2, 2]]
    assert evaluate(dense, x, y, SerialComm()).error == 0.75
    dense.weight.data[1] = np.nan  # one output of three
    assert evaluate(dense, x, y, SerialComm()).error == 1


@pytest.mark.parametrize("nested", [False, True])
def test_layers_in_evaluation_stay_there(data, nested):
    class Frozen(BatchNorm):
        def train(self, mode=True):  # noqa: ARG002 (always in evaluation)
            return super().train(False)

    trained, frozen, overridden = (kind(6, dtype=np.float64) for kind in (BatchNorm, BatchNorm, Frozen))
    inner = Sequential(frozen, overridden)
    model = Sequential(trained, *([inner] if nested else inner), Dense(6, 3, dtype=np.float64))
    frozen.eval()
    overridden.train()
    Trainer(model, SGD(model.parameters(), 0.1), SerialComm()).fit(*data, 2, validation_data=data)
    assert [layer.training for layer in (trained, frozen, overridden)] == [True, False, False]
    assert [int(layer.num_batches_tracked) for layer in (trained, frozen, overridden)] == [4, 0, 0]
    assert frozen.weight.data.std() > 0  # its parameters are trained


def test_a_model_in_evaluation_trains_after_train(build, data):
    trainer = build("bn")
    trainer.model.eval()
    with pytest.warns(UserWarning, match=r"in evaluation mode, .* call model\.train\(\) before fit"):
        trainer.fit(*data, 1)
    assert trainer.model[1].num_batches_tracked == 0
    trainer.model.train()
    trainer.fit(*data, 2)
    assert trainer.model[1].num_batches_tracked == 5


def test_a_layer_that_is_used_twice_trains(data):
    norm = BatchNorm(6, dtype=np.float64)
    model = Sequential(norm, norm, Dense(6, 3, dtype=np.float64))
    history = Trainer(model, SGD(model.parameters(), 0.1), SerialComm()).fit(*data, 5)
    assert norm.num_batches_tracked == 20
    assert history[-1].train_loss < history[0].train_loss


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("model", "trainers-are-fixed"),
        ("optimizer", "trainers-are-fixed"),
        ("comm", "trainers-are-fixed"),
        ("batch_per_rank", "trainers-are-fixed"),
        ("global_batch", "trainers-are-fixed"),
        ("seed", "trainers-are-fixed"),
        ("lr", "learning-rates"),
    ],
)
def test_an_argument_of_a_trainer_cannot_be_changed(build, name, entry):
    made = build()
    before = dict(vars(made))
    with pytest.raises(AttributeError, match=f"{name}.*{re.escape(see(entry))}$"):
        setattr(made, name, 8)
    assert vars(made) == before
    made.note = "of a user"


@pytest.mark.parametrize(("options", "warned"), [({}, True), ({"final_lr": 0.01}, False), ({"total_steps": 10}, False)])
def test_fit_warns_of_a_schedule_that_ends_before(build, data, options, warned):
    made = build(schedule=CosineSchedule(0.1, **{"total_steps": 9, **options}))
    text = (
        r"total_steps=9, but epochs=2 are 10 steps, so the learning rate of the rest is 0: make it with total_steps=10"
    )
    with pytest.warns(RuntimeWarning, match=text) if warned else nullcontext():
        made.fit(*data, 2)
    made.fit(*data, 2)  # which does nothing


def test_arrays_in_a_file_are_trained_on_as_those_in_memory(build, data, state, tmp_path):
    for name, array in zip(("x", "y"), data, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("x", "y")]
    in_memory, from_file = build("bn"), build("bn")
    in_memory.fit(*data, 2, validation_data=data)
    from_file.fit(*mapped, 2, validation_data=mapped)
    assert state(from_file) == state(in_memory)
