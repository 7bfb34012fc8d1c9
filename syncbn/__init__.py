"""Synchronized batch normalization for CPUs, over MPI, and other normalizers, for NumPy arrays."""

from __future__ import annotations

from syncbn import functional
from syncbn.comm import MPIComm, SerialComm, SyncError, SyncLostRankError, SyncMismatchError, SyncTimeoutError
from syncbn.layers import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Module,
    Parameter,
    RMSNorm,
    SyncBatchNorm,
    WeightNorm,
)
from syncbn.moments import Moments

__version__ = "0.1.0"

__all__ = [
    "BatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "MPIComm",
    "Module",
    "Moments",
    "Parameter",
    "RMSNorm",
    "SerialComm",
    "SyncBatchNorm",
    "SyncError",
    "SyncLostRankError",
    "SyncMismatchError",
    "SyncTimeoutError",
    "WeightNorm",
    "functional",
]
