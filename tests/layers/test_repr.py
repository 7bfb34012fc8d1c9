"""Layers, optimizers and communicators are printed with their arguments, layers as in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from syncbn import (
    BatchNorm,
    BatchRenorm,
    FilterResponseNorm,
    FrozenBatchNorm,
    GhostBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Module,
    RMSNorm,
    SerialComm,
    SyncBatchNorm,
    WeightNorm,
)
from syncbn.layers import LinearRamp
from syncbn.nn import (
    SGD,
    Adam,
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    MaxPool2d,
    ModuleList,
    ReLU,
    ResidualBlock,
    Sequential,
    Sigmoid,
)

LAYERS = {
    "BatchNorm(64, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)": BatchNorm(64),
    "BatchNorm(3, eps=0.001, momentum=None, affine=True, weight=False, track_running_stats=True)": BatchNorm(
        3, 1e-3, None, weight=False
    ),
    "SyncBatchNorm(3, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False)": SyncBatchNorm(
        3, affine=False, track_running_stats=False, comm=SerialComm()
    ),
    "BatchRenorm(3, eps=1e-05, momentum=0.1, affine=True, r_max=2, "
    "d_max=LinearRamp(first=0, last=5, start=1, stop=9))": (BatchRenorm(3, r_max=2, d_max=LinearRamp(0, 5, 1, 9))),
    "FilterResponseNorm(3, eps=1e-06, tlu=True)": FilterResponseNorm(3),
    "FrozenBatchNorm(3, eps=0.001)": FrozenBatchNorm(3, 1e-3),
    "GhostBatchNorm(3, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True, virtual_batch_size=8)": (
        GhostBatchNorm(3, 8)
    ),
    "InstanceNorm(3, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False)": InstanceNorm(3),
    "GroupNorm(2, 4, eps=1e-05, affine=True)": GroupNorm(2, 4),
    "LayerNorm((4, 5), eps=1e-05, elementwise_affine=True)": LayerNorm((4, 5)),
    "LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=False)": LayerNorm(4, bias=False),
    "RMSNorm((4,), eps=None, elementwise_affine=True)": RMSNorm(4),
    "Dense(in_features=784, out_features=10, bias=True)": Dense(784, 10),
    "Conv2d(1, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))": Conv2d(1, 8, 3, 2, 1),
    "Conv2d(1, 8, kernel_size=(3, 1), stride=(1, 1), padding=(0, 0), bias=False)": Conv2d(1, 8, (3, 1), bias=False),
    "MaxPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))": MaxPool2d(2),
    "AvgPool2d(kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))": AvgPool2d(3, 1, 1),
    "Dropout(p=0.5)": Dropout(),
    "ReLU()": ReLU(),
    "Sigmoid()": Sigmoid(),
    "Sequential()": Sequential(),
}


@pytest.mark.parametrize(("expected", "layer"), LAYERS.items(), ids=LAYERS)
def test_layers(expected, layer):
    assert repr(layer) == expected


def test_a_network_is_indented():
    model = Sequential(Flatten(), ModuleList([Dense(4, 2), WeightNorm(Dense(2, 2))]), Dropout(0.1))
    assert (
        repr(model)
        == """\
Sequential(
  (0): Flatten()
  (1): ModuleList(
    (0): Dense(in_features=4, out_features=2, bias=True)
    (1): WeightNorm(
      name='weight', axis=0
      (module): Dense(in_features=2, out_features=2, bias=True)
    )
  )
  (2): Dropout(p=0.1)
)"""
    )


def test_the_paths_of_a_block_are_named():
    lines = repr(ResidualBlock(3, 3)).splitlines()
    assert lines[0] == "ResidualBlock("
    assert "  (branch): Sequential(" in lines
    assert "  (shortcut): Sequential()" in lines


def test_layers_of_users():
    class Mine(Module):
        def __init__(self):
            super().__init__()
            self.inner = ReLU()

        def extra_repr(self):
            return "answer=42"

    assert repr(Mine()) == "Mine(\n  answer=42\n  (inner): ReLU()\n)"


def test_optimizers():
    parameters = list(Dense(2, 2).parameters())
    sgd = SGD(parameters, 0.1, momentum=0.9)
    assert repr(sgd) == "SGD(lr=0.1, weight_decay=0.0, momentum=0.9, nesterov=False)"
    sgd.lr = np.float64(0.05)
    assert repr(sgd).startswith("SGD(lr=0.05, ")
    assert repr(Adam(parameters)) == "Adam(lr=0.001, weight_decay=0.0, betas=(0.9, 0.999), eps=1e-08)"


def test_the_communicator_of_one_process():
    assert repr(SerialComm()) == "SerialComm(rank 0 of 1)"
