"""`syncbn.keras.BatchNormalization` has the results of `keras.layers.BatchNormalization`, in one process."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from keras_cases import (
    BACKEND,
    KERAS_WARNINGS,
    differentiate,
    keras,
    moving,
    normalize,
    problem,
    with_weights,
)

from syncbn.cli.mpiexec import mpiexec_command
from syncbn.comm import SERIAL, SerialComm
from syncbn.keras import BatchNormalization, distribute

pytestmark = KERAS_WARNINGS

ROOT = Path(__file__).parents[1]
KerasOwn = keras.layers.BatchNormalization


def assert_equal_layers(x, dy, *weights, call=None, tolerance=1e-5, **options):
    """Compare two training steps and inference of both layers."""
    layers = [with_weights(kind(**options), x, *weights) for kind in (BatchNormalization, KerasOwn)]
    for _ in range(2):
        found, expected = (differentiate(layer, x, dy, training=True, **(call or {})) for layer in layers)
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.dtype == theirs.dtype
            np.testing.assert_allclose(mine.astype(float), theirs.astype(float), rtol=tolerance, atol=10 * tolerance)
    for mine, theirs in zip(*map(moving, layers), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    mine, theirs = (normalize(layer, x) for layer in layers)
    np.testing.assert_allclose(mine.astype(float), theirs.astype(float), rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((7, 5), {}),
        ((6, 4, 3, 5), {"momentum": 0.7, "epsilon": 0.1}),
        ((6, 5, 4, 3), {"axis": 1}),
        ((6, 4, 5, 3), {"axis": -2}),
        ((6, 4, 5), {"center": False}),
        ((6, 4, 5), {"scale": False}),
        ((2, 3, 2, 2, 5), {"center": False, "scale": False}),
        ((7, 5), {"renorm": True, "renorm_clipping": {"rmax": 2.0}}),
    ],
)
def test_the_results_of_keras(shape, options):
    assert_equal_layers(*problem(shape, 5, offset=1.0), **options)


@pytest.mark.parametrize("dtype", [bool, "int32"])
def test_a_mask(dtype):
    x, *others = problem((6, 4, 5), 5)
    mask = np.random.default_rng(1).random((6, 4)) < 0.6
    assert_equal_layers(x, *others, call={"mask": mask.astype(dtype)})
    layers = [with_weights(BatchNormalization(), x, *others[1:]) for _ in range(2)]
    one = normalize(layers[0], x, training=True)
    other = normalize(layers[1], x, training=True, mask=mask)
    assert np.abs(one - other).max() > 0.01, "the mask has no effect"


def test_a_mask_where_channels_are_not_last():
    x, dy, *weights = problem((6, 4, 5), 5)
    mask = np.random.default_rng(1).random((6, 4)) < 0.6
    last = differentiate(with_weights(KerasOwn(), x, *weights), x, dy, training=True, mask=mask)
    x, dy = np.moveaxis(x, -1, 1).copy(), np.moveaxis(dy, -1, 1).copy()
    first = differentiate(with_weights(BatchNormalization(axis=1), x, *weights), x, dy, training=True, mask=mask)
    for position, (mine, theirs) in enumerate(zip(first, last, strict=True)):
        np.testing.assert_allclose(np.moveaxis(mine, 1, -1) if position < 2 else mine, theirs, rtol=1e-4, atol=1e-5)


def test_the_mask_of_an_embedding():
    """Keras passes the mask of an earlier layer."""
    tokens = np.array([[1, 2, 0], [3, 0, 0], [2, 1, 3]])
    found = []
    for kind in (BatchNormalization, KerasOwn):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Embedding(4, 5, mask_zero=True), kind()])
        found.append(normalize(model, tokens, training=True))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float16", "float64"])
def test_dtype_policies(policy):
    x, dy, *weights = problem((8, 3, 5), 5, offset=2.0)
    if policy == "float64" and BACKEND == "jax":
        pytest.skip("JAX has no float64 unless jax_enable_x64 is set")
    x = np.round(x * 16) / 16  # values of bfloat16, so that gradients refer to equal inputs
    tolerance = {"mixed_bfloat16": 1e-2, "float64": 1e-6}.get(policy, 2e-3)
    assert_equal_layers(x, dy, *weights, dtype=policy, tolerance=tolerance)


def test_a_layer_that_is_not_trainable_uses_its_moving_statistics():
    x, _, *weights = problem((6, 5), 5)
    layer, other = (with_weights(kind(), x, *weights) for kind in (BatchNormalization, KerasOwn))
    layer.trainable = other.trainable = False
    before = moving(layer)
    np.testing.assert_allclose(normalize(layer, x, training=True), normalize(other, x, training=True), rtol=1e-5)
    np.testing.assert_array_equal(moving(layer), before)


def test_large_means_do_not_cancel():
    x, *_ = problem((64, 5), 5)
    x = (x + 1e5).astype(np.float32)
    exact = (x - x.mean(0, dtype=float)) / np.sqrt(x.var(0, dtype=float) + 1e-3)
    layer = BatchNormalization(momentum=0.0)
    np.testing.assert_allclose(normalize(layer, x, training=True), exact, atol=1e-5)
    np.testing.assert_allclose(moving(layer)[1], x.var(0, dtype=float), rtol=1e-5)
    layer.moving_mean.assign(np.full(5, 1e5))
    centered = (x - np.float32(1e5)) / np.sqrt(moving(layer)[1] + 1e-3)
    np.testing.assert_allclose(normalize(layer, x), centered, atol=1e-5)


def test_an_empty_batch_leaves_the_moving_statistics():
    layer = BatchNormalization()
    x = np.ones((0, 5), np.float32)
    y, dx, *weights = differentiate(layer, x, x, training=True)
    assert y.shape == dx.shape == (0, 5)
    np.testing.assert_array_equal(weights, np.zeros((2, 5)))
    np.testing.assert_array_equal(moving(layer), [np.zeros(5), np.ones(5)])


def test_shapes_are_found_without_values():
    """Keras calls a layer with symbols, for example for the summary of a model."""
    layer = BatchNormalization()
    layer.build((None, 3, 5))
    x = keras.KerasTensor((2, 3, 5), "float32")
    spec = keras.src.backend.compute_output_spec(lambda x: layer.call(x, training=True), x)
    assert spec.shape == (2, 3, 5)
    np.testing.assert_array_equal(moving(layer), [np.zeros(5), np.ones(5)])


# ---- Saving


@pytest.mark.parametrize("comm", [None, SerialComm()])
def test_the_configuration(comm):
    layer = BatchNormalization(1, 0.9, 0.01, False, synchronized=comm is None, comm=comm, gamma_initializer="zeros")
    config = layer.get_config()
    assert config["synchronized"] is True
    assert "comm" not in config
    copy = BatchNormalization.from_config(config)
    assert copy.get_config() == config
    assert (copy.axis, copy.momentum, copy.epsilon, copy.center) == (1, 0.9, 0.01, False)
    assert copy._comm is None
    assert set(KerasOwn().get_config()) == set(config)


def model_of(**options):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(5, activation="relu"), BatchNormalization(**options), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((4,)), *layers])


@pytest.mark.parametrize("suffix", ["keras", "weights.h5"])
def test_saving_and_loading(tmp_path, suffix):
    model = model_of(comm=SerialComm())
    model.compile("adam", "mse")
    x, y = np.random.default_rng(0).standard_normal((32, 4)), np.ones((32, 3))
    distribute(model)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    path = tmp_path / f"model.{suffix}"
    if suffix == "keras":
        model.save(path)
        other = keras.saving.load_model(path)
    else:
        model.save_weights(path)
        other = model_of()
        other.load_weights(path)
    assert isinstance(other.layers[1], BatchNormalization)
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(model.predict(x, verbose=0), other.predict(x, verbose=0))


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_loading_without_syncbn_is_keras_own_error(tmp_path):
    path = tmp_path / "model.keras"
    model_of().save(path)
    done = run(f"import keras\nkeras.saving.load_model({str(path)!r})")
    assert re.search(r"Could not locate class 'BatchNormalization'.*register_keras_serializable", done.stderr)
    assert run(f"import keras, syncbn.keras\nkeras.saving.load_model({str(path)!r})").returncode == 0


# ---- Errors


def test_other_backends_are_refused_when_the_layer_is_built():
    code = (
        "import keras, syncbn.keras\n"
        "layer = syncbn.keras.BatchNormalization(synchronized=True)\n"
        "for call in (lambda: layer.build((None, 4)), lambda: syncbn.keras.distribute(model)):\n"
        "    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])\n"
        "    model.compile()\n"
        "    try: call()\n"
        "    except NotImplementedError as error: print(error)\n"
    )
    done = run(code, KERAS_BACKEND="numpy")
    assert done.stdout.count("on the torch and jax backends of Keras, got 'numpy'") == 2, done.stderr


def test_only_the_backend_in_use_is_imported():
    other = {"torch": "jax", "jax": "torch"}[BACKEND]
    code = "import sys, keras, syncbn.keras as k\nk.BatchNormalization().build((2, 3))\nprint(*sys.modules)"
    loaded = run(code).stdout.split()
    assert f"syncbn.{BACKEND}" in loaded
    assert f"syncbn.{other}" not in loaded


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: BatchNormalization(renorm=True, synchronized=True), ValueError, "renorm=True cannot be"),
        (lambda: BatchNormalization(comm="world"), TypeError, "must be"),
        (lambda: BatchNormalization()(np.ones((2, 3)), mask=np.ones((2, 3))), ValueError, "mask must have the axes"),
        (lambda: BatchNormalization(axis="last"), TypeError, "axis must be an integer, got 'last'"),
        (lambda: BatchNormalization(64)(np.ones((2, 3))), ValueError, "axis must be that of the channels, .* got 64"),
        (lambda: BatchNormalization()(np.ones(3)), ValueError, r"inputs must have 2 or more axes, got shape \(3,\)"),
        (lambda: BatchNormalization(momentum=None), ValueError, r"momentum must be in \[0, 1\], got None"),
        (lambda: BatchNormalization(epsilon=-1), ValueError, "epsilon must be finite and at least 0, got -1"),
        (lambda: BatchNormalization(synchronized="no"), TypeError, "synchronized must be True or False, got 'no'"),
        (
            lambda: BatchNormalization(eps=1e-5),
            ValueError,
            "'eps'.*expected options are axis, momentum, .*comm",
        ),
        (lambda: distribute("model"), TypeError, "keras.Model, got 'model'"),
        (lambda: distribute(keras.Sequential([keras.layers.Dense(2)])), ValueError, "built and compiled"),
        (lambda: distribute(model_of()), ValueError, "built and compiled"),
    ],
)
def test_invalid_arguments(call, error, text):
    pytest.importorskip("mpi4py")
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize(
    ("x", "options", "text"),
    [
        (np.ones((1, 3)), {}, "needs more than 1 value per channel"),
        (np.ones((4, 3)), {"mask": np.zeros(4, bool)}, "mask selects no value"),
    ],
)
def test_batches_without_statistics(x, options, text):
    with pytest.raises(Exception, match=text):  # JAX raises a JaxRuntimeError
        normalize(BatchNormalization(), x, training=True, **options)


def test_without_several_ranks_the_communicator_is_this_process():
    assert BatchNormalization(synchronized=True).comm is SERIAL
    assert BatchNormalization().comm is SERIAL


# ---- The other backend


@pytest.mark.skipif("KERAS_TESTS_NESTED" in os.environ, reason="this is the run on the other backend")
@pytest.mark.parametrize(("name", "ranks"), [("test_keras.py", 0), ("test_keras_ranks.py", 2)])
@pytest.mark.timeout(300)
def test_on_the_other_backend(name, ranks):
    other = {"torch": "jax", "jax": "torch"}[BACKEND]
    if find_spec(other) is None:
        pytest.skip(f"pip install {other}")
    command, extra = mpiexec_command(ranks) if ranks else ([], {})
    start = [sys.executable, *(["-m", "mpi4py"] if ranks else []), "-m", "pytest", "-q", f"tests/{name}"]
    done = subprocess.run(
        [*command, *start],
        cwd=ROOT,
        env={**os.environ, **extra, "KERAS_BACKEND": other, "KERAS_TESTS_NESTED": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_a_backend_that_is_missing_names_the_environment_variable(monkeypatch):
    """keras raises ImportError while it is imported, if the library of its backend is missing."""
    for name in [each for each in sys.modules if each == "keras" or each.startswith(("keras.", "syncbn.keras"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ImportError, match=r"needs keras, and PyTorch or JAX.*KERAS_BACKEND=torch or KERAS_BACKEND=jax"):
        importlib.import_module("syncbn.keras")
