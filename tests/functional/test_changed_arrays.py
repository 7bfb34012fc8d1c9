"""Arrays that the caller changes between a forward and its backward."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import syncbn
from syncbn import functional as F

SCRIPT = """
import numpy as np
from syncbn import functional as F
from syncbn.nn import Conv2d, Dense

DTYPE = np.dtype("{dtype}")
FORWARDS = {{
    "batch_norm": F.batch_norm,
    "batch_norm_inference": lambda x: F.batch_norm_inference(x, np.zeros(3), np.ones(3)),
    "group_norm": lambda x: F.group_norm(x, 3),
    "instance_norm": F.instance_norm,
    "layer_norm": lambda x: F.layer_norm(x, 4),
    "rms_norm": lambda x: F.rms_norm(x, 4),
    "filter_response_norm": F.filter_response_norm,
    "group_norm with a mask": lambda x: F.group_norm(x, 3, mask=True),
    "Dense": lambda x: Dense(4, 2)(x.reshape(6, 4)),
    "Conv2d": lambda x: Conv2d(3, 2, 1)(x.reshape(2, 3, 2, 2)),
}}


def change(backward, dy, array, name):
    before = backward(dy)
    array.flat[-1] += 1
    try:
        backward(dy)
    except RuntimeError as error:
        assert str(error).startswith(f"{{name}} has changed since the forward"), error
        print(name, end=" ")
    array.flat[-1] -= 1
    for one, other in zip(before, backward(dy)):
        assert one is None or np.array_equal(one, other)


for name, forward in FORWARDS.items():
    if DTYPE != np.float16 or "_norm" in name:
        x = (np.arange(24) % 7).astype(DTYPE).reshape(2, 3, 4)
        y, *_, backward = forward(x)
        change(backward, np.cos(y), x, "x")
if DTYPE == np.float32:
    for layer, shape in ((Dense(4, 2), (6, 4)), (Conv2d(3, 2, 1), (2, 3, 2, 2))):
        layer.weight.data[...] = 1  # and 1 again after the change
        y, backward = layer(np.ones(shape, DTYPE))
        change(lambda dy: (backward(dy),), np.cos(y), layer.weight.data, "weight")
for relu in (False, True):
    x, residual = (np.arange(48) % 7).astype(DTYPE).reshape(2, 2, 3, 4)
    y, _, backward = F.batch_norm(x, residual=residual, relu=relu)
    change(backward, np.cos(y), residual, "residual")
    if relu:
        change(backward, np.cos(y), y, "y")
"""


@pytest.mark.parametrize("debug", ["1", "0"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_changes_are_found_with_syncbn_debug(dtype, debug):
    environment = {**os.environ, "PYTHONPATH": str(Path(syncbn.__file__).parents[1]), "SYNCBN_DEBUG": debug}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(dtype=dtype)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    found = "x " * (8 if dtype == "float16" else 10) + "weight " * (2 * (dtype == "float32")) + "residual residual y"
    assert run.stdout.strip() == (found if debug == "1" else "")


@pytest.mark.parametrize("value", ["yes", "on", "True", "2"])
def test_a_wrong_value_of_syncbn_debug(value):
    environment = {**os.environ, "PYTHONPATH": str(Path(syncbn.__file__).parents[1]), "SYNCBN_DEBUG": value}
    source = "from syncbn import BatchNorm"
    run = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert run.stderr.endswith(f"SettingError: SYNCBN_DEBUG must be 1 or 0, got {value!r}\n")


def test_a_mask_is_copied(rng):
    x, dy, mask = rng.standard_normal((8, 3, 4)), rng.standard_normal((8, 3, 4)), rng.random((8, 4)) < 0.5
    for given in (mask, mask[:, :1], np.asfortranarray(mask)):
        used = given.copy(order="K")
        backward = F.batch_norm(x, mask=used)[-1]
        expected = backward(dy)[0]
        used[...] = ~used
        np.testing.assert_array_equal(backward(dy)[0], expected)
        assert not np.array_equal(F.batch_norm(x, mask=used)[-1](dy)[0], expected)


def test_parameters_values_are_copied(rng):
    x, dy = rng.standard_normal((8, 3, 4)), rng.standard_normal((8, 3, 4))
    weight, bias = rng.standard_normal((2, 3))
    for forward in (F.batch_norm, F.instance_norm, lambda x, *p: F.group_norm(x, 3, *p)):
        backward = forward(x, weight, bias)[-1]
        expected = backward(dy)
        weight += 1
        bias += 1
        for one, other in zip(backward(dy), expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("relu", [False, True])
def test_an_out_that_overlaps_itself_is_refused(relu):
    x = np.arange(12.0).reshape(4, 3) ** 2
    memory = np.zeros(12)
    item = memory.itemsize
    for strides in ((0, item), (item, item), (item, 2 * item)):
        out = np.lib.stride_tricks.as_strided(memory, (4, 3), strides)
        for call in (
            lambda out=out: F.batch_norm(x, relu=relu, out=out),
            lambda out=out: F.batch_norm(x)[-1](x, out=out),
        ):
            with pytest.raises(ValueError, match="out must not overlap itself"):
                call()
    assert not memory.any()
    for out in (np.zeros((3, 4)).T, np.zeros((8, 6))[::2, ::2], np.zeros((4, 3))[::-1, ::-1], np.zeros((1, 4, 3))[0]):
        np.testing.assert_array_equal(F.batch_norm(x, relu=relu, out=out)[0], F.batch_norm(x, relu=relu)[0])
