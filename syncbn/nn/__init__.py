"""Components of networks besides normalizers: layers, loss, optimizers, schedules, initializers, summary."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from syncbn import layers
from syncbn.nn.activations import ReLU, Sigmoid, Tanh
from syncbn.nn.adam import Adam
from syncbn.nn.avg_pool import AvgPool2d
from syncbn.nn.conv2d import Conv2d
from syncbn.nn.dense import Dense
from syncbn.nn.dropout import Dropout
from syncbn.nn.flatten import Flatten
from syncbn.nn.fuse import fuse
from syncbn.nn.global_avg_pool import GlobalAvgPool2d
from syncbn.nn.init import Initializer, glorot_normal, glorot_uniform, he_normal, he_uniform
from syncbn.nn.loss import mean_squared_error, softmax_cross_entropy
from syncbn.nn.max_pool import MaxPool2d
from syncbn.nn.module_list import ModuleList
from syncbn.nn.optimizer import Optimizer
from syncbn.nn.residual import ResidualBlock
from syncbn.nn.schedules import ConstantSchedule, CosineSchedule, Schedule, StepSchedule
from syncbn.nn.sequential import Sequential
from syncbn.nn.sgd import SGD
from syncbn.nn.summary import Summary, summary
from syncbn.other_libraries import NAMES, unknown

__all__ = [
    "SGD",
    "Adam",
    "AvgPool2d",
    "ConstantSchedule",
    "Conv2d",
    "CosineSchedule",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Initializer",
    "MaxPool2d",
    "ModuleList",
    "Optimizer",
    "ReLU",
    "ResidualBlock",
    "Schedule",
    "Sequential",
    "Sigmoid",
    "StepSchedule",
    "Summary",
    "Tanh",
    "fuse",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "mean_squared_error",
    "softmax_cross_entropy",
    "summary",
]

if not TYPE_CHECKING:  # so that a type checker reports unknown names

    def __getattr__(name: str) -> Any:
        """Raise AttributeError, which says what to use instead of a well-known name of Keras or PyTorch."""
        normalizers = {normalizer: f"use syncbn.layers.{normalizer}" for normalizer in layers.__all__}
        advice = {**NAMES, **normalizers}
        raise AttributeError(unknown(f"module {__name__!r}", name, advice), name=name, obj=sys.modules[__name__])
