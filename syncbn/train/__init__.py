"""Data-parallel training over a communicator: gradients, evaluation, checkpoints."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from syncbn.other_libraries import NAMES, unknown
from syncbn.train.checkpoint import CheckpointError
from syncbn.train.consistency import ParameterMismatchError, check_parameters
from syncbn.train.evaluation import Evaluation, evaluate, predict
from syncbn.train.gradients import FlatGradients
from syncbn.train.history import History
from syncbn.train.order import DataOrder, shard
from syncbn.train.population import update_bn
from syncbn.train.records import EpochRecord, Position, Progress
from syncbn.train.replicas import broadcast_parameters, sum_gradients
from syncbn.train.trainer import Trainer

__all__ = [
    "CheckpointError",
    "DataOrder",
    "EpochRecord",
    "Evaluation",
    "FlatGradients",
    "History",
    "ParameterMismatchError",
    "Position",
    "Progress",
    "Trainer",
    "broadcast_parameters",
    "check_parameters",
    "evaluate",
    "predict",
    "shard",
    "sum_gradients",
    "update_bn",
]

if not TYPE_CHECKING:  # so that a type checker reports unknown names

    def __getattr__(name: str) -> Any:
        """Raise AttributeError, which says what to use instead of a well-known name of Keras or PyTorch."""
        raise AttributeError(unknown(f"module {__name__!r}", name, NAMES), name=name, obj=sys.modules[__name__])
