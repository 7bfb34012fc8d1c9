"""The state of a training run, as the arrays of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from syncbn._core.checks import check_integer
from syncbn.train.checkpoint import CheckpointError
from syncbn.train.records import EpochRecord, Position

VERSION = 1

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Snapshot:
    """The state from which a run is resumed.

    Attributes
    ----------
    config, data : dict of str
        Descriptions that must be equal in the resumed run: the arguments of the trainer with the shapes of the
        arrays, and the training data ({} before the first `fit`).
    position : Position
    history : list of EpochRecord
    model, optimizer : dict of arrays
        Their ``state_dict``; that of rank 0 is written.
    buffers : ndarray of uint8, shape (ranks, bytes)
        Buffers of every rank if they differ between ranks, else of shape (0, 0).
    """

    config: dict[str, str]
    data: dict[str, str]
    position: Position
    history: list[EpochRecord]
    model: Arrays
    optimizer: Arrays
    buffers: NDArray[np.uint8]

    def as_arrays(self) -> Arrays:
        """Return arrays by name: ``model.NAME``, ``optimizer.NAME``, ``buffers``, and all else as JSON in ``meta``."""
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
        """Return the snapshot from the result of `as_arrays`.

        Raises
        ------
        CheckpointError
            The arrays are of another version, or were not returned by `as_arrays`.
        """
        try:
            meta = json.loads(arrays["meta"].tobytes())
            if meta["version"] != VERSION:
                raise CheckpointError(f"of version {meta['version']}; this syncbn reads version {VERSION}")
            position = _checked(Position(**meta["position"]))
            history = [_checked(EpochRecord(**record)) for record in meta["history"]]
            epochs = [record.epoch for record in history]
            if epochs != list(range(1, len(history) + 1)) or len(history) != position.epoch:
                raise ValueError(f"{len(history)} records of {position.epoch} epochs")
            if position.samples < position.step or (position.samples > 0 and position.step == 0):
                raise ValueError(f"{position.samples} samples in {position.step} steps")
            return cls(
                config=dict(meta["config"]),
                data=dict(meta["data"]),
                position=position,
                history=history,
                model=_under("model.", arrays),
                optimizer=_under("optimizer.", arrays),
                buffers=arrays["buffers"],
            )
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise CheckpointError(f"not the contents of a checkpoint ({type(error).__name__}: {error})") from error


Record = TypeVar("Record", Position, EpochRecord)


def _checked(record: Record) -> Record:
    """Return the record, or raise unless all of its fields have their types and none is negative. Losses may be NaN."""
    for field in fields(record):
        value = getattr(record, field.name)
        if field.type == "int":
            check_integer(field.name, value, 0)
        elif value is not None or field.type != "float | None":
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{field.name} must be a number, got {value!r}")
            if float(value) < 0:
                raise ValueError(f"{field.name} must not be negative, got {value!r}")
    return record


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def differences(saved: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Return the differences, as ``name: … in the checkpoint, … here``; "" if there are none."""
    names = [name for name in {**saved, **here} if saved.get(name) != here.get(name)]
    shown = [
        f"{name}: {saved.get(name, 'nothing')} in the checkpoint, {here.get(name, 'nothing')} here"
        for name in names[:_SHOWN]
    ]
    return "; ".join(shown) + (f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


_SHOWN = 3
