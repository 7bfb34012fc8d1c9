"""In one process: an interrupted and resumed training has the bits of one that was not interrupted."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest

from syncbn import WeightStandardization
from syncbn.nn import SGD, ConstantSchedule, Dense, ReLU, Tanh
from syncbn.train import CheckpointError, Trainer, snapshot
from syncbn.train.checkpoint import decode, encode
from syncbn.train.config import describe_model
from syncbn.train.records import EpochRecord, Position


class InterruptedTrainingError(Exception):
    pass


def train_until(trainer, data, path, epoch, step, **options):
    """Train with a checkpoint after every step, and break off after the given one."""

    def stop(progress):
        if (progress.epoch, progress.step) == (epoch, step):
            raise InterruptedTrainingError

    with pytest.raises(InterruptedTrainingError):
        trainer.fit(*data, 3, validation_data=data, checkpoint=path, checkpoint_steps=1, on_step=stop, **options)


@pytest.mark.parametrize("norm", ["none", "bn", "syncbn"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("epoch", "step"), [(1, 1), (2, 3), (2, 4), (3, 5)])
def test_same_bits(build, data, state, tmp_path, norm, optimizer, epoch, step):
    path = tmp_path / "run.npz"
    whole, broken = (build(norm, optimizer=optimizer) for _ in range(2))
    whole.fit(*data, 3, validation_data=data)
    train_until(broken, data, path, epoch, step)
    resumed = build(norm, optimizer=optimizer, seed=99)
    assert resumed.resume(path)
    assert state(resumed) != state(whole)
    resumed.fit(*data, 3, validation_data=data)
    assert state(resumed) == state(whole)


@pytest.mark.parametrize("forgotten", ["optimizer", "position", "model", "buffers"])
def test_the_comparison_would_see_what_is_forgotten(build, data, state, tmp_path, forgotten):
    path = tmp_path / "run.npz"
    whole, broken, resumed = (build("bn") for _ in range(3))
    whole.fit(*data, 3, validation_data=data)
    train_until(broken, data, path, 2, 3)
    resumed.resume(path)
    if forgotten == "optimizer":
        resumed.optimizer.load_state_dict(build("bn").optimizer.state_dict())
    elif forgotten == "position":
        resumed.position = snapshot.Position(epoch=1)
    elif forgotten == "model":
        resumed.model[0].weight.data[0, 0] = np.nextafter(resumed.model[0].weight.data[0, 0], 9)
    else:
        resumed.model[1].reset_running_stats()
    resumed.fit(*data, 3, validation_data=data)
    assert state(resumed) != state(whole)


def test_saving_changes_nothing(build, data, state, tmp_path):
    plain, saving = build("bn"), build("bn")
    plain.fit(*data, 2)
    saving.fit(*data, 2, checkpoint=tmp_path / "run.npz", checkpoint_steps=2)
    assert state(plain) == state(saving)
    resumed = build("bn")
    resumed.resume(str(tmp_path / "run.npz"))
    assert state(resumed) == state(saving)


def test_a_learning_rate_that_was_set_by_hand(build, data, state, tmp_path):
    trainer, resumed = build(), build()
    trainer.fit(*data, 1)
    trainer.optimizer.lr = 0.0123
    trainer.save(tmp_path / "run.npz")
    resumed.resume(tmp_path / "run.npz")
    assert resumed.optimizer.lr == 0.0123
    for each in (trainer, resumed):
        each.fit(*data, 2)
    assert state(trainer) == state(resumed)


def test_no_file(build, tmp_path):
    trainer = build()
    assert not trainer.resume(tmp_path / "absent.npz", missing_ok=True)
    with pytest.raises(CheckpointError, match=r"absent\.npz: there is no such checkpoint"):
        trainer.resume(tmp_path / "absent.npz")
    with pytest.raises(CheckpointError, match=f"{tmp_path.name}: Is a directory"):
        trainer.resume(tmp_path, missing_ok=True)


def changed(path, **changes):
    """Replace entries of the metadata, or arrays, and give the file a right checksum again."""
    arrays = decode(path.read_bytes())
    meta = json.loads(arrays["meta"].tobytes())
    meta |= {name: value for name, value in changes.items() if name in meta}
    arrays |= {name.replace("__", "."): value for name, value in changes.items() if name not in meta}
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    path.write_bytes(encode({name: array for name, array in arrays.items() if array is not None}))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": 2}, "of version 2; this syncbn reads version 1"),
        ({"position": {"nonsense": 1}}, "not the contents of a checkpoint"),
        ({"history": [{}]}, "not the contents of a checkpoint"),
        ({"model__0__weight": None}, "missing '0.weight'"),
        ({"model__0__weight": np.zeros(3)}, r"'0.weight' has shape \(3,\), expected \(8, 6\)"),
        ({"model__new": np.zeros(3)}, "unexpected 'new'"),
        ({"optimizer__lr": None}, "missing 'lr'"),
        ({"optimizer__momentum_buffer__0": np.zeros(3)}, "momentum_buffer.0"),
        ({"optimizer__lr": np.array(-1.0)}, "lr must be"),
        ({"buffers": None}, "not the contents of a checkpoint"),
    ],
)
def test_contents_that_do_not_fit_change_nothing(build, data, state, tmp_path, changes, problem):
    trainer, path = build("bn"), tmp_path / "run.npz"
    trainer.fit(*data, 1, checkpoint=path)
    other = build("bn", seed=5)
    before = state(other)
    changed(path)
    good = path.read_bytes()
    changed(path, **changes)
    with pytest.raises(CheckpointError, match=rf"run\.npz: .*{problem}"):
        other.resume(path)
    assert state(other) == before
    path.write_bytes(good)
    assert other.resume(path)
    assert state(other) == state(trainer)


NO_NUMBERS = [None, "x", -1, True, [1], {}, 10**400]
"""Values that no field of a position or a record can have, except that an integer may be large."""

FIELDS = [
    (kind, field.name, value)
    for kind in (Position, EpochRecord)
    for field in fields(kind)
    for value in [*NO_NUMBERS, *([0.5, float("nan")] if field.type == "int" else [])]
    if not (value is None and "None" in field.type) and not (value == 10**400 and field.type == "int")
]


@pytest.mark.parametrize(("kind", "name", "value"), FIELDS)
def test_every_field_of_the_position_and_of_the_records_is_checked(build, data, state, tmp_path, kind, name, value):
    path = tmp_path / "run.npz"
    train_until(build(), data, path, 2, 3)
    meta = json.loads(decode(path.read_bytes())["meta"].tobytes())
    (meta["position"] if kind is Position else meta["history"][0])[name] = value
    changed(path, **meta)
    other = build(seed=5)
    before = state(other)
    with pytest.raises(CheckpointError, match=r"run\.npz: not the contents of a checkpoint"):
        other.resume(path)
    assert state(other) == before


@pytest.mark.parametrize(
    "changes",
    [{"epoch": 0}, {"epoch": 10**12}, {"epoch": 10**30}, {"step": 0}, {"step": 37}, {"samples": 0}, {"samples": 2}],
    ids=str,
)
def test_a_position_that_contradicts_itself_is_refused(build, data, tmp_path, changes):
    path = tmp_path / "run.npz"
    train_until(build(), data, path, 2, 3)
    meta = json.loads(decode(path.read_bytes())["meta"].tobytes())
    assert (meta["position"]["epoch"], meta["position"]["step"], meta["position"]["samples"]) == (1, 3, 36)
    changed(path, position=meta["position"] | changes)
    with pytest.raises(CheckpointError, match=r"(records of|samples in)"):
        build().resume(path)


def test_a_step_after_the_end_of_the_epoch_is_refused(build, data, tmp_path):
    path = tmp_path / "run.npz"
    train_until(build(), data, path, 2, 3)
    meta = json.loads(decode(path.read_bytes())["meta"].tobytes())
    changed(path, position=meta["position"] | {"step": 6})
    trainer = build()
    trainer.resume(path)
    with pytest.raises(ValueError, match="fit cannot continue after step 6 of an epoch of 5 steps"):
        trainer.fit(*data, 3)


def test_a_diverged_training_is_resumed(build, data, tmp_path):
    path = tmp_path / "run.npz"
    train_until(build(), data, path, 2, 3)
    meta = json.loads(decode(path.read_bytes())["meta"].tobytes())
    record = meta["history"][0] | {"train_loss": float("nan"), "test_loss": float("inf"), "test_error": None}
    changed(path, position=meta["position"] | {"loss_sum": float("nan")}, history=[record])
    assert build().resume(path)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"batch_per_rank": 6}, "global_batch: 12 in the checkpoint, 6 here"),
        ({"drop_last": True}, "drop_last: False in the checkpoint, True here"),
        ({"optimizer": "adam"}, r"optimizer: SGD\(.*\) in the checkpoint, Adam\(.*\) here"),
        ({"schedule": ConstantSchedule(0.2)}, "schedule: None in the checkpoint, ConstantSchedule"),
        ({"wire_dtype": np.float32}, "wire_dtype: float64 in the checkpoint, float32 here"),
        ({"norm": "ln"}, r"layer '1': \w+\(8, eps=.* in the checkpoint, LayerNorm\(.* here"),
        ({"norm": "none"}, r"; and \d+ more"),
    ],
)
def test_other_choices_are_refused(build, data, state, tmp_path, options, problem):
    path = tmp_path / "run.npz"
    trainer = build()
    trainer.fit(*data, 1, checkpoint=path)
    other = build(**options)
    before = state(other)
    with pytest.raises(CheckpointError, match=rf"run\.npz: of a training with other choices: .*{problem}"):
        other.resume(path)
    assert state(other) == before


def test_another_activation_of_equal_shapes_is_refused(build, data, tmp_path):
    build().fit(*data, 1, checkpoint=tmp_path / "run.npz")
    other = build()
    index = next(i for i, layer in enumerate(other.model) if isinstance(layer, ReLU))
    other.model._layers[index] = Tanh()
    other = Trainer(other.model, other.optimizer, other.comm, batch_per_rank=12, check_every=2)
    with pytest.raises(CheckpointError, match=rf"layer '{index}': ReLU\(\) in the checkpoint, Tanh\(\) here"):
        other.resume(tmp_path / "run.npz")


def test_other_arguments_of_a_layer_that_contains_one_are_described():
    described = [describe_model(WeightStandardization(Dense(3, 2), eps=eps)) for eps in (1e-5, 1e-3)]
    assert described[0] != described[1]
    assert list(described[0])[:2] == ["model", "layer 'module'"]


def test_other_data_is_refused(build, data, tmp_path):
    x, y = data
    build().fit(x, y, 1, checkpoint=tmp_path / "run.npz")
    other = build()
    other.resume(tmp_path / "run.npz")
    with pytest.raises(ValueError, match="training data differ"):
        other.fit(x[::-1].copy(), y, 2)


def test_other_hyperparameters_are_refused(build, tmp_path):
    trainer, other = build(), build()
    trainer.save(tmp_path / "run.npz")
    optimizer = SGD(other.model.parameters(), 0.1, momentum=0.8)
    other = type(other)(other.model, optimizer, other.comm, batch_per_rank=12)
    with pytest.raises(CheckpointError, match=r"momentum=0\.9.*momentum=0\.8"):
        other.resume(tmp_path / "run.npz")
