"""Data-parallel training over a communicator."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from syncbn._core.checks import check_integer
from syncbn.comm import CommLike
from syncbn.layers import Module
from syncbn.nn import Optimizer
from syncbn.train.config import check_samples, describe_data, describe_training
from syncbn.train.consistency import check_parameters
from syncbn.train.errors import check_same, collective_errors, find_communicator
from syncbn.train.evaluation import Evaluation, evaluate
from syncbn.train.order import DataOrder
from syncbn.train.persistence import broadcast_state, capture, read_snapshot, restore, write_snapshot
from syncbn.train.records import EpochRecord, Position, Progress
from syncbn.train.snapshot import differences
from syncbn.train.step import TrainingStep
from syncbn.typing import FloatArray

Labels = NDArray[np.integer]
PathLike = str | os.PathLike[str]


class Trainer:
    """Trains a classifier on all ranks together: each takes its share of every global batch.

    Collective, with the same arguments on all ranks. Parameters and buffers of rank 0 are copied to the
    others at once.

    The result is that of one process with the same global batch: losses are divided by the global batch
    and gradients added, which is right for uneven shares and ranks without samples too. The order of
    the data depends on ``seed`` and the epoch alone, not on the number of ranks. (Bits may differ with the
    number of ranks, since matrix products round differently for other shapes; with the same number
    they repeat.) An error of one rank is raised on all: its own there, `SyncMismatchError` elsewhere, if
    synchronized layers have the same communicator.

    Running statistics of local batch normalization differ between ranks. As in PyTorch's
    DistributedDataParallel, rank 0's are the model's.

    Parameters
    ----------
    model : Module
        From a batch to logits of shape (N, K). The loss is `syncbn.nn.softmax_cross_entropy`.
    optimizer : Optimizer
        Of all or some of the model's parameters.
    comm : CommLike
        None: COMM_WORLD, or this process alone without mpi4py.
    schedule : callable, optional
        From the step (0, 1, …, over all epochs) to the learning rate, such as `syncbn.nn.CosineSchedule`.
        None: the optimizer's.
    batch_per_rank : int
        The global batch is this times the number of ranks.
    seed : int
        Of the order of the data.
    drop_last : bool
        Leave out the last batch of an epoch where it is smaller. Kept, it may give a rank a single
        sample, of which local batch normalization can't take a variance: a ValueError.
    check_every : int or None
        Steps between checks that parameters have the same bits on all ranks; also at each epoch's end.
        None: never.
    wire_dtype : dtype, optional
        In which gradients are added, float32 or float64. None: the parameters'.

    Attributes
    ----------
    position : Position
        Epochs and steps done.
    history : list of EpochRecord

    Raises
    ------
    ValueError, TypeError
        A bad argument, or one that differs between ranks.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        comm: CommLike = None,
        *,
        schedule: Callable[[int], float] | None = None,
        batch_per_rank: int = 32,
        seed: int = 0,
        drop_last: bool = False,
        check_every: int | None = 100,
        wire_dtype: DTypeLike | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.comm = find_communicator(comm)
        self.schedule = schedule
        self.seed = seed
        self.drop_last = drop_last
        self.check_every = check_every
        self.position = Position()
        self.history: list[EpochRecord] = []
        self._data: dict[str, str] = {}
        with collective_errors(self.comm, "Trainer"):
            self.global_batch = check_integer("batch_per_rank", batch_per_rank) * self.comm.size
            check_integer("seed", seed, 0)
            if check_every is not None:
                check_integer("check_every", check_every)
            known = {id(parameter) for parameter in model.parameters()}
            if not all(id(parameter) in known for parameter in optimizer.parameters):
                raise ValueError("the optimizer has a Parameter that is not in the model")
            self._step = TrainingStep(model, optimizer, self.comm, wire_dtype)
            self._config = describe_training(
                model,
                optimizer,
                schedule,
                global_batch=self.global_batch,
                seed=seed,
                drop_last=drop_last,
                wire_dtype=self._step.gradients.buffer.dtype,
            )
        check_same(self.comm, "Trainer", {"names": list(self._config), "check_every": check_every, **self._config})
        broadcast_state(model, self.comm)

    def fit(
        self,
        x: FloatArray,
        y: Labels,
        epochs: int,
        *,
        validation_data: tuple[FloatArray, Labels] | None = None,
        on_step: Callable[[Progress], object] | None = None,
        on_epoch: Callable[[EpochRecord], object] | None = None,
        checkpoint: PathLike | None = None,
        checkpoint_steps: int | None = None,
    ) -> list[EpochRecord]:
        """Train until ``epochs`` epochs have been done in all, those before `resume` included.

        Collective, with the same arguments on all ranks.

        Parameters
        ----------
        x : ndarray, shape (N, ...)
            All samples, the same on all ranks; each step takes a copy of its own.
        y : ndarray of integers, shape (N,)
        epochs : int
        validation_data : pair of arrays, optional
            Evaluated after each epoch.
        on_step : callable, optional
            Is given a `Progress` after each step, on all ranks. An exception in it, on one rank or on
            all, ends training on all ranks; another call goes on from there. It may call `evaluate` on
            all ranks; then it must not fail on one of them before.
        on_epoch : callable, optional
            Is given the `EpochRecord` after each epoch, likewise.
        checkpoint : path, optional
            `save` there after each epoch.
        checkpoint_steps : int, optional
            And after every so many steps of an epoch.

        Returns
        -------
        list of EpochRecord
            One for each epoch since the start of training.

        Raises
        ------
        ValueError, TypeError
            A bad argument, one that differs between ranks, or data other than that of the checkpoint.
        ParameterMismatchError
            Parameters are no longer the same on all ranks.
        CheckpointError
            A checkpoint can't be written. Training can go on from here with another call.
        SyncMismatchError
            Another rank has failed.
        """
        with collective_errors(self.comm, "fit"):
            check_samples(x, y)
            if validation_data is not None:
                check_samples(*validation_data)
            if checkpoint_steps is not None:
                check_integer("checkpoint_steps", checkpoint_steps)
            order = DataOrder(len(x), self.global_batch, self.seed, self.drop_last)
            data = describe_data(x, y)
            options = {
                "epochs": check_integer("epochs", epochs, 0),
                "validation_data": validation_data is None or describe_data(*validation_data),
                "checkpoint": checkpoint is None,
                "checkpoint_steps": checkpoint_steps,
            }
        check_same(self.comm, "fit", {**data, **options})
        if self._data and (other := differences(self._data, data)):
            raise ValueError(f"fit goes on with other data than it began with: {other}")
        self._data = data
        self.model.train()
        while self.position.epoch < epochs:
            self._finish_epoch(x, y, order, epochs, on_step, checkpoint, checkpoint_steps)
            tested = None if validation_data is None else self.evaluate(*validation_data)
            loss, error = (None, None) if tested is None else (tested.loss, tested.error)
            self.history.append(self.position.record(self.optimizer.lr, loss, error))
            self.position = Position(self.position.epoch + 1)
            with collective_errors(self.comm, "the end of an epoch"):
                if on_epoch is not None:
                    on_epoch(self.history[-1])
            if checkpoint is not None:
                self.save(checkpoint)
        return self.history

    def _finish_epoch(
        self,
        x: FloatArray,
        y: Labels,
        order: DataOrder,
        epochs: int,
        on_step: Callable[[Progress], object] | None,
        checkpoint: PathLike | None,
        checkpoint_steps: int | None,
    ) -> None:
        """Take the steps of the epoch that are left."""
        epoch = self.position.epoch
        done: Progress | None = None

        def report() -> None:
            if on_step is not None and done is not None:
                on_step(done)

        def prepare() -> None:
            report()  # of the step before: here, an error reaches all ranks together with those of this step
            if self.schedule is not None:
                self.optimizer.lr = self.schedule(epoch * order.steps + self.position.step)

        for batch in order.batches(epoch, self.position.step):
            result = self._step.run(x, y, batch, prepare)
            done = Progress(
                epoch=epoch + 1,
                epochs=epochs,
                step=self.position.step + 1,
                steps=order.steps,
                samples=len(batch),
                loss=result.loss,
                lr=self.optimizer.lr,
                seconds=result.seconds,
                bytes_sent=result.bytes_sent,
            )
            self.position = self.position.after(done)
            last = done.step == order.steps
            if self.check_every and (last or done.step % self.check_every == 0):
                check_parameters(self.model, self.comm)
            if checkpoint is not None and checkpoint_steps and done.step % checkpoint_steps == 0 and not last:
                self.save(checkpoint)
        with collective_errors(self.comm, "the last step of an epoch"):
            report()

    def evaluate(self, x: FloatArray, y: Labels, batch_size: int = 256) -> Evaluation:
        """Return loss and error on other data; see `syncbn.train.evaluate`. Collective. Changes nothing."""
        return evaluate(self.model, x, y, self.comm, batch_size=batch_size)

    def save(self, path: PathLike) -> None:
        """Write a checkpoint: a file from which `resume` goes on to the same bits.

        Collective. Changes nothing. Rank 0 writes; until the file is complete, the one before stays.

        Raises
        ------
        CheckpointError
            The file can't be written. The one before is still there.
        """
        snapshot = capture(self.model, self.optimizer, self.comm, self._config, self._data, self.position, self.history)
        write_snapshot(Path(path), snapshot, self.comm)

    def resume(self, path: PathLike, *, missing_ok: bool = False) -> bool:
        """Go back to where `save` was called, on the same or on another number of ranks.

        Collective. The trainer must have been made with the same choices, but ``batch_per_rank`` such that
        the global batch is the same. With the same number of ranks, the end of training has the same bits as
        without interruption.

        Parameters
        ----------
        path : path
            Read by rank 0.
        missing_ok : bool
            Return False where there is no file, instead of raising.

        Returns
        -------
        bool
            Whether there was a checkpoint.

        Raises
        ------
        CheckpointError
            The file is missing, damaged, of another version or of a training with other choices. Nothing
            has been changed then.
        """
        snapshot = read_snapshot(Path(path), self.comm, missing_ok=missing_ok)
        if snapshot is None:
            return False
        restore(Path(path), snapshot, self.model, self.optimizer, self.comm, self._config)
        self.position, self.history, self._data = snapshot.position, snapshot.history, snapshot.data
        return True
