"""The state of a training run, as arrays that a checkpoint holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_integer
from syncbn.train.checkpoint import CheckpointError
from syncbn.train.records import EpochRecord, Position

VERSION = 1

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Snapshot:
    """Everything that a resumed run needs.

    Attributes
    ----------
    config, data : dict of str
        What must be the same in the run that resumes: the trainer's choices and the arrays' shapes, and
        what tells the training data from others ({} before the first `fit`).
    position : Position
    history : list of EpochRecord
    model, optimizer : dict of arrays
        Their ``state_dict``, from rank 0.
    buffers : ndarray of uint8, shape (ranks, bytes)
        Every rank's own buffers where they differ; shape (0, 0) where they don't.
    """

    config: dict[str, str]
    data: dict[str, str]
    position: Position
    history: list[EpochRecord]
    model: Arrays
    optimizer: Arrays
    buffers: NDArray[np.uint8]

    def as_arrays(self) -> Arrays:
        """Return arrays by name: ``model.NAME``, ``optimizer.NAME``, ``buffers``, and the rest as JSON in ``meta``."""
        meta = {
            "version": VERSION,
            "config": self.config,
            "data": self.data,
            "position": asdict(self.position),
            "history": [asdict(record) for record in self.history],
        }
        return {
            "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8),
            "buffers": self.buffers,
            **{f"model.{name}": array for name, array in self.model.items()},
            **{f"optimizer.{name}": array for name, array in self.optimizer.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Snapshot:
        """Return the snapshot of which `as_arrays` gave the arrays.

        Raises
        ------
        CheckpointError
            They are of another version, or came from elsewhere.
        """
        try:
            meta = json.loads(arrays["meta"].tobytes())
            if meta["version"] != VERSION:
                raise CheckpointError(f"of version {meta['version']}; this syncbn reads version {VERSION}")
            position = Position(**meta["position"])
            check_integer("epoch", position.epoch, 0)
            check_integer("step", position.step, 0)
            return cls(
                config=dict(meta["config"]),
                data=dict(meta["data"]),
                position=position,
                history=[EpochRecord(**record) for record in meta["history"]],
                model=_under("model.", arrays),
                optimizer=_under("optimizer.", arrays),
                buffers=arrays["buffers"],
            )
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"not the contents of a checkpoint ({type(error).__name__}: {error})") from error


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def differences(saved: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Return what differs, as ``name: … in the checkpoint, … here``; "" where nothing does."""
    names = [name for name in {**saved, **here} if saved.get(name) != here.get(name)]
    shown = [
        f"{name}: {saved.get(name, 'nothing')} in the checkpoint, {here.get(name, 'nothing')} here"
        for name in names[:_SHOWN]
    ]
    return "; ".join(shown) + (f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


_SHOWN = 3
