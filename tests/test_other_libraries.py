"""Names of Keras and PyTorch are errors that say what to use, and what they say exists."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pkgutil import resolve_name
from types import ModuleType

import numpy as np
import pytest

import syncbn
from syncbn import nn
from syncbn.other_libraries import ATTRIBUTES, COMMUNICATION, NAMES, OF_TORCH
from syncbn.train import History

OF_ITS_ARRAY = "use those of its array, parameter.data (docs/sharp-bits.md#values-of-parameters)"
BRIDGES = {f"import syncbn.{bridge} first" for bridge in ("torch", "keras", "jax", "onnx")}


@pytest.mark.parametrize(
    ("owner", "name", "advice"),
    [
        (syncbn, "BatchNorm2d", "use syncbn.BatchNorm"),
        (syncbn, "Linear", "use nn.Dense"),
        (syncbn, "torch_", None),
        (syncbn, "SyncBatchNorm2d", "use syncbn.SyncBatchNorm"),
        (syncbn.Parameter(np.ones(2)), "shape", OF_ITS_ARRAY),
        (syncbn.Parameter(np.ones(2)), "numpy", OF_ITS_ARRAY),
        (syncbn.Parameter(np.ones(2)), "gradient", None),
        (nn, "Linear", "use nn.Dense"),
        (nn, "CrossEntropyLoss", "use nn.softmax_cross_entropy"),
        (nn, "BatchNorm", "use syncbn.layers.BatchNorm"),
        (nn, "SyncBatchNorm", "use syncbn.layers.SyncBatchNorm"),
        (nn, "Dens", None),
        (syncbn, "Dense", "use syncbn.nn.Dense"),
        (syncbn, "Trainer", "use syncbn.train.Trainer"),
        (syncbn.train, "DataLoader", "use train.DataOrder and train.shard"),
        (nn, "parallel", "use train.Trainer, or train.sum_gradients in a loop of your own"),
        (syncbn.train, "DataParallel", "use train.Trainer, or train.sum_gradients in a loop of your own"),
        (syncbn, "get_rank", "use the rank of syncbn.MPIComm()"),
        (syncbn, "get_world_size", "use the size of syncbn.MPIComm()"),
        (syncbn, "all_reduce", "call allreduce(array) of syncbn.MPIComm(), in place"),
        (syncbn, "distributed", "construct syncbn.MPIComm(), of the ranks of mpiexec"),
        (syncbn.functional, "cross_entropy", "use nn.softmax_cross_entropy"),
        (syncbn.functional, "batch_nor", None),
        (syncbn.data, "MNIST", "call data.load(), or data.load(directory)"),
        (syncbn.SerialComm(), "reduce", "call allreduce(array), in place"),
        (nn.ReLU(), "cuda", "leave it out, all arrays are in the memory of the CPU"),
        (nn.ReLU(), "state_dicts", None),
        (nn.Dense(4, 3), "summary", "call nn.summary(model, x.shape[1:])"),
        (nn.Dense(4, 3), "fit", "call train.Trainer(model, optimizer).fit(x, y, epochs)"),
        (nn.Dense(4, 3), "predict", "call train.predict(model, x)"),
        (syncbn.BatchNorm(2), "gamma", "it is weight"),
        (syncbn.BatchNorm(2), "moving_variance", "it is running_var"),
        (syncbn.SerialComm(), "Get_rank", "it is rank"),
        (syncbn.SerialComm(), "bcast", "call allgather(value)[0]"),
        (syncbn.SerialComm(), "ranks", None),
    ],
)
def test_the_error_of_a_name_that_is_not_here(owner, name, advice):
    kind = f"module {owner.__name__!r}" if isinstance(owner, ModuleType) else f"{type(owner).__name__!r} object"
    with pytest.raises(AttributeError) as caught:
        getattr(owner, name)
    assert str(caught.value) == f"{kind} has no attribute {name!r}" + (f": {advice}" if advice else "")
    assert caught.value.name == name
    assert caught.value.obj is owner  # from these two, Python suggests a similar name


def test_the_error_of_a_name_that_the_bridge_of_pytorch_does_not_have():
    pytest.importorskip("torch")
    bridge = import_module("syncbn.torch")
    with pytest.raises(AttributeError, match=r"no attribute 'DistributedDataParallel': use torch\.nn\.parallel\."):
        _ = bridge.DistributedDataParallel
    for advice in OF_TORCH.values():
        for word in re.findall(r"(?:syncbn\.)?torch\.[\w.]*\w", advice):
            assert resolve_name(word)


def test_assigning_to_a_method():
    layer = syncbn.BatchNorm(2)
    with pytest.raises(TypeError, match=r"train is a method of BatchNorm: call train\(\.\.\.\) instead"):
        layer.train = False
    layer.forward = lambda x: (x, lambda dy: dy)  # a function may replace one


def test_assigning_a_flag_of_another_library():
    layer = syncbn.BatchNorm(2)
    for name in ("trainable", "requires_grad"):
        with pytest.raises(
            AttributeError,
            match=rf"no attribute '{name}': for a layer .*, leave its parameters out of the optimizer, and",
        ):
            setattr(layer, name, False)

    class Own(syncbn.Module):
        trainable = True

    Own().trainable = False


def test_the_history_of_keras():
    with pytest.raises(AttributeError, match=r"no attribute 'history': .*\[record\.train_loss for record in history\]"):
        _ = History().history


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_here_need_no_advice(name):
    assert not hasattr(nn, name)
    assert not hasattr(syncbn, name) or find_spec(f"syncbn.{name}")  # a bridge that another test has imported


@pytest.mark.parametrize(
    ("owner", "advice"),
    [
        *((syncbn.BatchNorm(2), advice) for advice in ATTRIBUTES.values()),
        *((syncbn.SerialComm(), advice) for advice in COMMUNICATION.values()),
    ],
)
def test_what_an_advice_says_that_an_object_has_is_there(owner, advice):
    for name in re.findall(r"(?:it is |call )(\w+)(?:\(|$)", advice):
        assert hasattr(owner, name)


@pytest.mark.parametrize("advice", sorted({*ATTRIBUTES.values(), *NAMES.values()} - BRIDGES))
def test_what_an_advice_names_exists(advice):
    if "syncbn.torch." in advice:
        pytest.importorskip("torch")
    for word in re.findall(r"(?<![\w.])(?:syncbn|nn|train)\.[\w.]*\w", advice):
        assert resolve_name(f"syncbn.{word.removeprefix('syncbn.')}")


@pytest.mark.parametrize("package", ["data", "monitor", "nn", "train"])
def test_packages_need_no_import_of_their_own(package):
    code = f"import syncbn; assert syncbn.{package}.__all__; assert hasattr(syncbn, '{package}')"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_bridge_needs_an_import_of_its_own():
    code = "import syncbn, sys; assert not hasattr(syncbn, 'torch'); assert 'torch' not in sys.modules; syncbn.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "AttributeError: module 'syncbn' has no attribute 'torch': import syncbn.torch first" in done.stderr
