"""The monitor in one process: its records, their file and the figure."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import BatchNorm, SerialComm, WeightNorm
from syncbn.monitor import Monitor, plot, read_records
from syncbn.nn import SGD, Conv2d, Dense, Flatten, ReLU, Sequential, softmax_cross_entropy
from syncbn.train import Trainer

ONE = SerialComm()


@pytest.fixture
def data(rng):
    x = rng.standard_normal((40, 6)) + 1
    return x, (x @ rng.standard_normal((6, 3))).argmax(axis=1)


def network():
    rng = np.random.default_rng(1)
    return Sequential(
        Dense(6, 8, rng=rng, dtype=np.float64),
        BatchNorm(8, dtype=np.float64),
        ReLU(),
        WeightNorm(Dense(8, 3, rng=rng, dtype=np.float64)),
    )


def train(model, data, epochs=2, **options):
    trainer = Trainer(model, SGD(model.parameters(), 0.1), ONE, batch_per_rank=10, **options)
    trainer.fit(*data, epochs, on_step=lambda progress: progress.step == 2 and trainer.evaluate(*data))
    return trainer


def step(model, data, optimizer=None):
    logits, backward = model(data[0])
    backward(softmax_cross_entropy(logits, data[1])[1])
    if optimizer is not None:
        optimizer.step()


def test_each_layer_has_a_record_in_each_step(data, tmp_path):
    model = network()
    with Monitor(model, tmp_path / "run.jsonl", ONE) as monitor:
        train(model, data)
    records = read_records(tmp_path / "run.jsonl")
    assert monitor.steps == 8
    assert [record["step"] for record in records] == np.repeat(range(8), 5).tolist()
    assert [(record["layer"], record["type"]) for record in records[:5]] == [
        ("0", "Dense"),
        ("1", "BatchNorm"),
        ("2", "ReLU"),
        ("3.module", "Dense"),
        ("3", "WeightNorm"),
    ]
    assert set(records[0]) == {"step", "layer", "type", "output_grad_norm", "grad_norms"}
    assert set(records[2]) == {"step", "layer", "type", "output_grad_norm", "dead"}
    assert list(records[4]["grad_norms"]) == ["weight_g", "weight_v", "bias"]


@pytest.mark.parametrize(("axis", "dead"), [(-1, 0.5), (1, 0.0)])
def test_units_are_the_channels_of_the_axis(rng, tmp_path, axis, dead):
    model = Sequential(BatchNorm(4, channel_axis=-1), ReLU())
    model[0].bias.data[:2] = -100
    with Monitor(model, tmp_path / "run.jsonl", ONE, channel_axis=axis):
        y, backward = model(rng.standard_normal((5, 3, 4)).astype(np.float32))
        backward(np.ones_like(y))
    (record,) = (record for record in read_records(tmp_path / "run.jsonl") if record["layer"] == "1")
    assert record["dead"] == dead


def test_the_numbers_are_those_of_the_layers_and_parameters(data, tmp_path):
    model = network()
    model[1].bias.data[:3] = -100
    seen = {}
    with (
        Monitor(model, tmp_path / "run.jsonl", ONE),
        model[0].register_forward_hook(lambda *found: seen.update(y=found[2][0])),
    ):
        step(model, data)
    by_layer = {record["layer"]: record for record in read_records(tmp_path / "run.jsonl")}
    norm, hidden = by_layer["1"], seen["y"]
    np.testing.assert_allclose(norm["batch_mean"], hidden.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(norm["batch_var"], hidden.var(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(norm["running_var"], model[1].running_var)
    deviation = (hidden.mean(axis=0) - model[1].running_mean) / np.sqrt(model[1].running_var + 1e-5)
    np.testing.assert_allclose(norm["mean_distance"], np.sqrt(np.mean(deviation**2)), rtol=1e-12)
    ratio = np.log((hidden.var(axis=0, ddof=1) + 1e-5) / (model[1].running_var + 1e-5))
    np.testing.assert_allclose(norm["var_distance"], np.sqrt(np.mean(ratio**2)), rtol=1e-12)
    assert by_layer["2"]["dead"] == 3 / 8
    for layer, name in (("0", "weight"), ("0", "bias"), ("1", "bias"), ("3", "weight_v")):
        parameter = dict(model.named_parameters())[f"{layer}.{name}"]
        np.testing.assert_allclose(by_layer[layer]["grad_norms"][name], np.linalg.norm(parameter.grad), rtol=1e-12)
    dlogits = softmax_cross_entropy(model(data[0])[0], data[1])[1]
    np.testing.assert_allclose(by_layer["3"]["output_grad_norm"], np.linalg.norm(dlogits), rtol=1e-9)


def test_dead_units_of_images_are_channels(rng, tmp_path):
    conv = Conv2d(1, 4, 3, rng=rng)
    conv.bias.data[...] = [-100, 100, 100, -100]
    model = Sequential(conv, ReLU(), Flatten(), Dense(16, 2))
    with Monitor(model, tmp_path / "run.jsonl", ONE):
        step(model, (rng.standard_normal((5, 1, 4, 4)).astype(np.float32), np.zeros(5, int)))
    assert read_records(tmp_path / "run.jsonl")[1]["dead"] == 0.5


def test_the_training_has_the_same_bits_and_hooks_are_removed(data, tmp_path):
    plain, monitored = network(), network()
    train(plain, data)
    with Monitor(monitored, tmp_path / "run.jsonl", ONE, every=3) as monitor:
        train(monitored, data)
    for name, array in plain.state_dict().items():
        np.testing.assert_array_equal(array, monitored.state_dict()[name])
    assert sorted({record["step"] for record in read_records(tmp_path / "run.jsonl")}) == [0, 3, 6]
    assert not any(module._forward_hooks for _, module in monitored.named_modules())
    size = (tmp_path / "run.jsonl").stat().st_size
    monitored.zero_grad()
    step(monitored, data)
    monitor.close()
    assert (tmp_path / "run.jsonl").stat().st_size == size


def test_a_backward_after_the_end_is_not_recorded(data, tmp_path):
    model = network()
    with Monitor(model, tmp_path / "run.jsonl", ONE) as monitor:
        logits, backward = model(data[0])
    backward(logits)
    assert monitor.steps == 0
    assert read_records(tmp_path / "run.jsonl") == []


def test_what_is_not_finite_is_null_and_layers_without_statistics_have_none(data, tmp_path):
    model = Sequential(BatchNorm(6, track_running_stats=False), BatchNorm(6, affine=False).eval(), Dense(6, 3))
    x = data[0].copy()
    x[0, 2] = np.inf
    with Monitor(model, tmp_path / "run.jsonl", ONE):
        step(model, (x, data[1]))
    untracked, frozen, dense = read_records(tmp_path / "run.jsonl")
    assert untracked["batch_var"][2] is None
    assert untracked["batch_var"][1] > 0
    assert "running_var" not in untracked
    assert set(frozen) == {"step", "layer", "type", "output_grad_norm"}
    assert dense["grad_norms"]["weight"] is None
    assert "NaN" not in (tmp_path / "run.jsonl").read_text()


def test_the_figure_has_a_curve_for_each_layer_and_quantity(data, tmp_path):
    model = network()
    with Monitor(model, tmp_path / "run.jsonl", ONE) as monitor:
        train(model, data)
    figure = monitor.plot(tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    assert [len(axes.lines) for axes in figure.axes] == [1, 1, 1, 3]
    records = [record for record in read_records(tmp_path / "run.jsonl") if record["layer"] == "1"]
    steps, values = figure.axes[0].lines[0].get_data()
    assert list(steps) == list(range(8))
    np.testing.assert_array_equal(values, [record["mean_distance"] for record in records])
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert labels == ["0 (Dense)", "1 (BatchNorm)", "2 (ReLU)", "3 (WeightNorm)"]


def test_files_of_killed_runs_and_other_files(tmp_path):
    file = tmp_path / "run.jsonl"
    file.write_text('{"step": 0, "layer": "0"}\n{"step": 1, "lay')
    assert read_records(file) == [{"step": 0, "layer": "0"}]
    file.write_text("no JSON\n")
    with pytest.raises(ValueError, match=r"run\.jsonl is not a file of JSON lines"):
        read_records(file)
    file.write_text("")
    with pytest.raises(ValueError, match="has no records: train at least one step"):
        plot(file)
    with pytest.raises(FileNotFoundError):
        read_records(tmp_path / "none")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"every": 0}, ValueError, "every must be at least 1, got 0"),
        ({"channel_axis": 1.0}, TypeError, "channel_axis must be an integer"),
        ({"path": "missing/run.jsonl"}, FileNotFoundError, "missing"),
        ({"model": 3}, TypeError, "model must be a syncbn module"),
    ],
)
def test_errors_state_what_was_passed_and_what_was_expected(arguments, error, text, tmp_path):
    path = tmp_path / arguments.pop("path", "run.jsonl")
    with pytest.raises(error, match=text):
        Monitor(arguments.pop("model", network()), path, ONE, **arguments)


def test_a_disk_that_is_full_is_an_error_of_the_step(data):
    model = network()
    with Monitor(model, "/dev/full", ONE), pytest.raises(OSError, match="No space left"):
        step(model, data)
    step(model, data)


def test_a_file_that_is_not_text(tmp_path):
    np.savez(tmp_path / "state.npz", weight=np.ones(3))
    with pytest.raises(ValueError, match=r"state\.npz is not a file of JSON lines"):
        read_records(tmp_path / "state.npz")
