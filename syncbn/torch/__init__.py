"""Synchronized batch normalization for PyTorch, on CPU tensors.

Importing this package imports torch, which ``import syncbn`` does not. Files::

    layer           SyncBatchNorm, and BatchNorm for models that are converted back
    conversion      convert_sync_batchnorm and revert_sync_batchnorm
    operators       forward, backward and double backward as differentiable functions of tensors
    stateless       normalization and other functions of tensors, for syncbn.keras
    running_statistics  their update
    tensors         tensors as arrays, and results as tensors
    differentiable  the mechanism by which these are differentiated, in eager calls and in compiled graphs
    agreement       whether ranks need a graph, agreed on in the handshake of a forward
    groups          the ranks that share the statistics of a layer
    distributed     TorchComm: the communicator over torch.distributed
    replicas        broadcast_parameters, average_gradients and loss_weight
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from syncbn.other_libraries import OF_TORCH, unknown
from syncbn.torch.conversion import convert_sync_batchnorm, revert_sync_batchnorm
from syncbn.torch.distributed import TorchComm
from syncbn.torch.layer import BatchNorm, SyncBatchNorm
from syncbn.torch.replicas import average_gradients, broadcast_parameters, loss_weight

__all__ = [
    "BatchNorm",
    "SyncBatchNorm",
    "TorchComm",
    "average_gradients",
    "broadcast_parameters",
    "convert_sync_batchnorm",
    "loss_weight",
    "revert_sync_batchnorm",
]

if not TYPE_CHECKING:  # so that a type checker reports unknown names

    def __getattr__(name: str) -> Any:
        """Raise AttributeError, which says what to use instead of a well-known name of PyTorch."""
        raise AttributeError(unknown(f"module {__name__!r}", name, OF_TORCH), name=name, obj=sys.modules[__name__])
