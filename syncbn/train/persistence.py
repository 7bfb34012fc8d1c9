"""Reading and writing of checkpoints, by rank 0 for all ranks."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from syncbn.comm import Communicator, SyncMismatchError
from syncbn.files import open_regular, printable, write_atomically
from syncbn.layers import Module
from syncbn.nn import Optimizer
from syncbn.pitfalls import see
from syncbn.train.buffers import gather_buffers, unpack_buffers
from syncbn.train.checkpoint import CheckpointError, decode, encode
from syncbn.train.errors import collective_errors
from syncbn.train.records import EpochRecord, Position
from syncbn.train.snapshot import Snapshot, differences


def capture(
    model: Module,
    optimizer: Optimizer,
    comm: Communicator,
    config: Mapping[str, str],
    data: Mapping[str, str],
    position: Position,
    history: Sequence[EpochRecord],
) -> Snapshot:
    """Return the state of training of all ranks. Collective."""
    buffers = gather_buffers(model, comm)
    return Snapshot(
        config=dict(config),
        data=dict(data),
        position=position,
        history=list(history),
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        buffers=np.empty((0, 0), np.uint8) if buffers is None else np.stack(buffers),
    )


def check_directory(path: Path, comm: Communicator) -> None:
    """Raise `CheckpointError` on all ranks unless rank 0 finds the directory of the file. Collective."""
    with _collective_errors(comm, "find the directory of checkpoints"):
        if comm.rank == 0 and not path.parent.is_dir():
            raise CheckpointError(f"{path}: can't be written (there is no directory {path.parent})")


class CheckpointFiles:
    """The checkpoint files of one training, by whose states it notices the files of another one. Not collective.

    Parameters
    ----------
    comm : Communicator
        Ranks that train. Rank 0 reads and writes the files.
    """

    def __init__(self, comm: Communicator) -> None:
        self.comm = comm
        self._states: dict[Path, tuple[int, ...]] = {}

    def is_new(self, path: Path) -> bool:
        """Return whether there is a file that this training has neither written nor read. Not collective."""
        return path not in self._states and _state(path) is not None

    def write(self, path: Path, snapshot: Snapshot) -> None:
        """Write a checkpoint. Collective; raises `CheckpointError` on all ranks."""
        if path in self._states and _state(path) not in (None, self._states[path]):
            # The warning points to the caller of `Trainer.save`, which is decorated.
            warnings.warn(
                f"{printable(str(path))}: another program has replaced it since this training wrote or read it, and "
                f"this training replaces it again: give each training a file of its own{see('checkpoints')}",
                RuntimeWarning,
                stacklevel=4,
            )
        write_snapshot(path, snapshot, self.comm)
        self._remember(path)

    def read(self, path: Path, *, missing_ok: bool) -> Snapshot | None:
        """Return a checkpoint; None if there is no file and ``missing_ok`` is True.

        Collective; raises `CheckpointError` on all ranks.
        """
        snapshot = read_snapshot(path, self.comm, missing_ok=missing_ok)
        self._remember(path)
        return snapshot

    def _remember(self, path: Path) -> None:
        """Store the state of a file, on rank 0."""
        if self.comm.rank == 0 and (state := _state(path)) is not None:
            self._states[path] = state


def _state(path: Path) -> tuple[int, ...] | None:
    """Return what identifies a regular file and its contents, or None if there is none."""
    with suppress(OSError):
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
    return None


def write_snapshot(path: Path, snapshot: Snapshot, comm: Communicator) -> None:
    """Write a checkpoint on rank 0. Collective; raises `CheckpointError` on all ranks."""
    with _collective_errors(comm, "write a checkpoint"):
        if comm.rank == 0:
            try:
                write_atomically(path, encode(snapshot.as_arrays()))
            except Exception as error:  # whatever it is, all ranks raise the same class
                reason = getattr(error, "strerror", None) or repr(error)
                raise CheckpointError(f"{path}: can't be written ({reason})") from error


def read_snapshot(path: Path, comm: Communicator, *, missing_ok: bool = False) -> Snapshot | None:
    """Return the snapshot that rank 0 reads; None if there is no file and ``missing_ok`` is True.

    Collective; raises `CheckpointError` on all ranks.
    """
    content: bytes | None = None
    with _collective_errors(comm, "read a checkpoint"):
        if comm.rank == 0:
            try:
                with open_regular(path) as file:
                    content = file.read()
                decode(content)
            except FileNotFoundError as error:
                if not missing_ok:
                    raise CheckpointError(f"{path}: there is no such checkpoint") from error
            except Exception as error:  # whatever it is, all ranks raise the same class
                raise CheckpointError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    content = comm.allgather(content)[0]
    if content is None:
        return None
    try:
        return Snapshot.from_arrays(decode(content))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


@contextmanager
def _collective_errors(comm: Communicator, operation: str) -> Iterator[None]:
    """Return a context in which a `CheckpointError` of rank 0 is raised as such on all ranks."""
    try:
        with collective_errors(comm, operation):
            yield
    except SyncMismatchError as error:
        if 0 not in error.errors:
            raise
        raise CheckpointError(error.errors[0]) from error


def restore(
    path: Path, snapshot: Snapshot, model: Module, optimizer: Optimizer, comm: Communicator, config: Mapping[str, str]
) -> None:
    """Copy a snapshot to model and optimizer, or change neither if it raises an error. Not collective."""
    if other := differences(snapshot.config, config):
        raise CheckpointError(f"{path}: of a training with other choices: {other}")
    packed = sum(array.nbytes for _, array in model.named_buffers())
    shape = snapshot.buffers.shape
    if snapshot.buffers.dtype != np.uint8 or (shape != (0, 0) and shape[1:] != (packed,)):
        raise CheckpointError(f"{path}: buffers are {snapshot.buffers.dtype} {shape}, expected uint8 (ranks, {packed})")
    before = model.state_dict()
    try:
        model.load_state_dict(snapshot.model)
        optimizer.load_state_dict(snapshot.optimizer)
    except (ValueError, TypeError) as error:
        model.load_state_dict(before)
        raise CheckpointError(f"{path}: {error}") from error
    if len(snapshot.buffers) == comm.size:
        unpack_buffers(model, snapshot.buffers[comm.rank])
