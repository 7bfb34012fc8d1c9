"""Layers: normalizers with parameters and running statistics, and the base class of all layers."""

from __future__ import annotations

from syncbn.layers.batch_norm import BatchNorm, SyncBatchNorm
from syncbn.layers.frozen_batch_norm import FrozenBatchNorm
from syncbn.layers.group_norm import GroupNorm
from syncbn.layers.instance_norm import InstanceNorm
from syncbn.layers.layer_norm import LayerNorm
from syncbn.layers.module import Module
from syncbn.layers.parameter import Parameter
from syncbn.layers.rms_norm import RMSNorm
from syncbn.layers.weight_norm import WeightNorm

__all__ = [
    "BatchNorm",
    "FrozenBatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "Module",
    "Parameter",
    "RMSNorm",
    "SyncBatchNorm",
    "WeightNorm",
]
