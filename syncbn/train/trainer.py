"""Data-parallel training over a communicator."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import DTypeLike

from syncbn._core.checks import check_flag
from syncbn.comm import CommLike, Communicator
from syncbn.comm.collective import collective
from syncbn.files import check_path
from syncbn.layers import Module
from syncbn.nn import Optimizer
from syncbn.other_libraries import check_assignment
from syncbn.pitfalls import see
from syncbn.train.arguments import check_arguments, check_samples
from syncbn.train.config import describe_training
from syncbn.train.consistency import check_parameters
from syncbn.train.display import make_display
from syncbn.train.divergence import describe_divergence, has_diverged, has_finite_parameters
from syncbn.train.errors import check_same, collective_errors, find_communicator, of_all_ranks
from syncbn.train.evaluation import Evaluation, evaluate, predict
from syncbn.train.history import History
from syncbn.train.order import DataOrder
from syncbn.train.persistence import CheckpointFiles, capture, check_directory, restore
from syncbn.train.records import EpochRecord, Position, Progress
from syncbn.train.replicas import broadcast_parameters
from syncbn.train.run import Labels, PathLike, Run
from syncbn.train.snapshot import differences
from syncbn.train.step import TrainingStep
from syncbn.typing import FloatArray

_of_self = collective(lambda passed: passed["self"].comm)


class Trainer:
    """Data-parallel training of a classifier, in which each rank processes its share of every global batch.

    Collective, with equal arguments on all ranks. The constructor copies the parameters and buffers of rank 0
    to all ranks.

    The result is that of one process with the same global batch: losses are divided by the size of the global
    batch, and gradients are added. Ranks may have different numbers of samples, or none. The order of the data
    depends only on ``seed`` and the epoch. Runs on the same number of ranks have the same bits; on other numbers
    of ranks the bits differ, because matrix products of other shapes are rounded differently. An error of one
    rank is raised on all ranks, unchanged on that rank and as `SyncMismatchError` on the others, provided that
    synchronized layers use the same communicator.

    The running statistics of local batch normalization differ between ranks. Evaluation and checkpoints use
    those of rank 0, as in PyTorch's DistributedDataParallel.

    The arguments of the constructor cannot be changed afterwards.

    Parameters
    ----------
    model : Module
        Model that returns logits of shape (N, K). The loss is `syncbn.nn.softmax_cross_entropy`.
    optimizer : Optimizer
        Optimizer of all or some of the parameters of the model.
    comm : CommLike
        Ranks that train. None means the communicator of the model's synchronized layers if all processes belong
        to it, or else COMM_WORLD; without mpi4py, this process only.
    schedule : callable, optional
        Function that returns the learning rate of a step (0, 1, …, over all epochs), such as
        `syncbn.nn.CosineSchedule`. None keeps the learning rate of the optimizer.
    batch_per_rank : int
        Size of the global batch divided by the number of ranks.
    seed : int
        Seed of the order of the data.
    drop_last : bool
        Whether to skip the last batch of an epoch if it is smaller. Otherwise a rank may have a single sample
        in it, for which local batch normalization raises ValueError.
    check_every : int or None
        Number of steps between checks that parameters have the same bits on all ranks. They are also checked at
        the end of each epoch. None means no checks.
    wire_dtype : dtype, optional
        Dtype in which gradients are summed over ranks, float32 or float64. None means that of the parameters.

    Attributes
    ----------
    position : Position
        Number of completed epochs and steps.
    history : History
        Records of all completed epochs; ``history.plot()`` draws them.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid, or differs between ranks.

    See Also
    --------
    syncbn.train.sum_gradients : For a loop of your own.
    syncbn.monitor.Monitor : Records of the layers.

    Examples
    --------
    >>> from syncbn import SyncBatchNorm, data, nn, train
    >>> images = data.prepare(data.load(), flat=True)
    >>> model = nn.Sequential(nn.Dense(784, 16), SyncBatchNorm(16), nn.ReLU(), nn.Dense(16, 10))
    >>> optimizer = nn.SGD(model.parameters(), lr=0.05, momentum=0.9)
    >>> trainer = train.Trainer(model, optimizer, batch_per_rank=32)
    >>> history = trainer.fit(images.x_train[:640], images.y_train[:640], epochs=2)
    >>> len(history), history[-1].steps
    (2, 20)
    >>> trainer.save("run.npz")
    >>> trainer.resume("run.npz")
    True
    >>> trainer.evaluate(images.x_test, images.y_test).samples
    2000
    """

    @of_all_ranks
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
        self.comm: Communicator = find_communicator(comm, model)
        self.schedule = schedule
        self.seed = seed
        self.drop_last = drop_last
        self.check_every = check_every
        self.position: Position = Position()
        self.history: History = History()
        self._data: dict[str, str] = {}
        self._files = CheckpointFiles(self.comm)
        with collective_errors(self.comm, "Trainer"):
            check_arguments(model, optimizer, schedule, batch_per_rank, seed, drop_last, check_every)
            self.global_batch: int = int(batch_per_rank) * self.comm.size
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
        check_same(self.comm, "Trainer", {"check_every": check_every, "lr": optimizer.lr, **self._config})
        broadcast_parameters(model, self.comm)

    if not TYPE_CHECKING:  # so that a type checker reports unknown attributes

        def __setattr__(self, name: str, value: object) -> None:
            """Raise AttributeError for an argument of the constructor, a change of which would have no effect."""
            if "_config" in vars(self):
                if name in ("lr", "learning_rate"):
                    raise AttributeError(f"a Trainer has no {name}: set trainer.optimizer.lr{see('learning-rates')}")
                if name in _FIXED:
                    raise AttributeError(
                        f"{name} of a Trainer cannot be changed: make a new Trainer with it{see('trainers-are-fixed')}"
                    )
                check_assignment(self, name, value, {})
            super().__setattr__(name, value)

    @_of_self
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
        progress: bool | None = None,
    ) -> History:
        """Train until ``epochs`` epochs are completed, including those of earlier calls and those before `resume`.

        Collective, with equal arguments on all ranks. After ``fit(x, y, 3)``, ``fit(x, y, 5)`` trains 2 more epochs,
        with the same bits as a single call; another ``fit(x, y, 3)`` does nothing, and says so. Layers in evaluation
        mode remain in it: if the whole model should train after ``model.eval()``, call ``model.train()`` first.

        Parameters
        ----------
        x : ndarray, shape (N, ...)
            All samples, equal on all ranks. They are not changed.
        y : ndarray of integers, shape (N,)
            Class indices, 0 to K−1.
        epochs : int
            Number of epochs since the start of training, not of this call.
        validation_data : pair of arrays, optional
            Samples and class indices, which are evaluated after each epoch.
        on_step : callable, optional
            Function that is called with a `Progress` after each step, on all ranks. An exception in it, on one rank
            or more, ends training on all ranks; another call of `fit` continues. It may call `evaluate` if all
            ranks do; a rank must not raise an error before this call.
        on_epoch : callable, optional
            Function that is called with the `EpochRecord` after each epoch, under the same conditions.
        checkpoint : path, optional
            File to which `save` writes after each epoch, unless a parameter is not finite: then the last file remains.
        checkpoint_steps : int, optional
            Number of steps between further calls of `save` within an epoch; requires ``checkpoint``.
        progress : bool, optional
            Whether rank 0 shows loss and accuracy, of the training and of the validation data: by a bar on a terminal
            (with rich, which the extra ``cli`` installs), a table in a notebook, and a line for each epoch elsewhere,
            on stderr. None shows them on a terminal and in a notebook.

        Returns
        -------
        History
            Records of all epochs since the start of training, a list of `EpochRecord`.

        Raises
        ------
        ValueError, TypeError
            An argument is invalid or differs between ranks, or the data differ from those of the earlier epochs.
        RuntimeError
            An optimizer step was interrupted.
        ParameterMismatchError
            Parameters differ between ranks.
        CheckpointError
            A checkpoint cannot be written. Another call continues the training. That its directory is missing is
            detected before the first step.
        SyncMismatchError
            Another rank has failed.

        Warns
        -----
        UserWarning
            On rank 0: the model is in evaluation mode.
        RuntimeWarning
            On rank 0: the loss or a parameter is not finite after an epoch (once), or the ``total_steps`` of the
            schedule are fewer than those of the epochs, and its learning rate 0 for the rest; or there is a file
            ``checkpoint`` that this trainer has neither written nor read, which it replaces. Training goes on.
        """
        with collective_errors(self.comm, "fit"):
            for name, function in (("on_step", on_step), ("on_epoch", on_epoch)):
                if not (function is None or callable(function)):
                    raise TypeError(f"{name} must be a function or None, got {function!r}")
            if progress is not None:
                check_flag("progress", progress)
            check_samples(x, y)  # before their number is asked for
            order = DataOrder(len(x), self.global_batch, self.seed, self.drop_last)
            run = Run(x, y, epochs, order, validation_data, checkpoint, checkpoint_steps)
            options = run.options
            self._check_whole_steps()
            completed = self.position.epoch
            done_before = 0 < completed >= epochs
            display = make_display(True if progress is None and done_before else progress, self.comm.rank, self.history)
            if done_before:
                display.note(
                    f"fit does nothing: {completed} epochs are completed, and epochs={epochs} counts them; "
                    f"epochs={completed + max(epochs, 1)} trains {max(epochs, 1)} more"
                )
        check_same(self.comm, "fit", {**self._done(), **run.data, **options})
        if self._data and (other := differences(self._data, run.data)):
            raise ValueError(
                f"fit cannot continue: training data differ from those of the checkpoint: {other} (or from those of "
                "the first call of fit). Pass the same data; to train the model on other data, make another Trainer"
                f"{see('checkpoints')}"
            )
        if self.position.step > order.steps:  # a forged checkpoint
            raise ValueError(f"fit cannot continue after step {self.position.step} of an epoch of {order.steps} steps")
        if run.file is not None:
            check_directory(run.file, self.comm)
        self._data = run.data
        if self.comm.rank == 0 and not done_before:
            for text, category in run.warnings(self.model, self.schedule, self._files):
                warnings.warn(text, category, stacklevel=3)

        def report(done: Progress) -> None:
            display.step(done, self.position)
            if on_step is not None:
                on_step(done)

        diverged = False
        with display:
            while self.position.epoch < epochs:
                self._finish_epoch(run, report)
                tested = None if validation_data is None else self.evaluate(*validation_data)
                loss, error = (None, None) if tested is None else (tested.loss, tested.error)
                # Not append: an interrupt before the next line must not give the epoch two records.
                self.history[self.position.epoch :] = [self.position.record(self.optimizer.lr, loss, error)]
                self.position = Position(self.position.epoch + 1)
                with collective_errors(self.comm, "the end of an epoch"):
                    display.epoch(epochs)
                    if not diverged and has_diverged(self.model, self.history):
                        diverged = True
                        if self.comm.rank == 0:
                            # The warning points to the caller of `fit`, which is decorated.
                            warnings.warn(describe_divergence(self.history, run.file), RuntimeWarning, stacklevel=3)
                    if on_epoch is not None:
                        on_epoch(self.history[-1])
                if run.file is not None:
                    self._save_if_finite(run.file)
        return self.history

    def _finish_epoch(self, run: Run, on_step: Callable[[Progress], object]) -> None:
        """Run the remaining steps of the epoch."""
        epoch = self.position.epoch
        done: Progress | None = None

        def report() -> None:
            if done is not None:
                on_step(done)

        def prepare() -> None:
            report()  # for the previous step; `TrainingStep.run` raises its errors on all ranks without another message
            if self.schedule is not None:
                self.optimizer.lr = self.schedule(epoch * run.order.steps + self.position.step)

        for batch in run.order.batches(epoch, self.position.step):
            result = self._step.run(run.x, run.y, batch, prepare)
            done = Progress(
                epoch=epoch + 1,
                epochs=run.epochs,
                step=self.position.step + 1,
                steps=run.order.steps,
                samples=len(batch),
                loss=result.loss,
                lr=self.optimizer.lr,
                seconds=result.seconds,
                bytes_sent=result.bytes_sent,
                wrong=result.wrong,
            )
            self.position = self.position.after(done)
            self._step.updating = False
            last = done.step == run.order.steps
            if self.check_every and (last or done.step % self.check_every == 0):
                check_parameters(self.model, self.comm)
            if run.file is not None and run.checkpoint_steps and done.step % run.checkpoint_steps == 0 and not last:
                self._save_if_finite(run.file)
        with collective_errors(self.comm, "the last step of an epoch"):
            report()

    @_of_self
    def evaluate(self, x: FloatArray, y: Labels, batch_size: int = 256) -> Evaluation:
        """Return loss and error on other data; see `syncbn.train.evaluate`. Collective."""
        return evaluate(self.model, x, y, self.comm, batch_size=batch_size)

    def predict(self, x: FloatArray, batch_size: int = 256) -> FloatArray:
        """Return the logits of these samples; see `syncbn.train.predict`. Not collective."""
        return predict(self.model, x, batch_size=batch_size)

    @_of_self
    def save(self, path: PathLike) -> None:
        """Write a checkpoint, a file from which `resume` continues with the same bits.

        Collective. Rank 0 writes the file, and replaces an earlier one only when the new one is complete.

        Raises
        ------
        RuntimeError
            An optimizer step was interrupted, so there is no consistent state. An earlier file remains.
        ValueError
            Ranks have completed different numbers of steps, because one was interrupted. An earlier file remains.
        CheckpointError
            The file cannot be written. An earlier file remains.

        Warns
        -----
        RuntimeWarning
            On rank 0: another program has replaced the file since this trainer wrote or read it.
        """
        with collective_errors(self.comm, "save"):
            file = check_path("path", path)
            self._check_whole_steps()
        check_same(self.comm, "save", self._done())
        history = self.history[: self.position.epoch]  # one more after an interrupt at the end of an epoch
        snapshot = capture(self.model, self.optimizer, self.comm, self._config, self._data, self.position, history)
        self._files.write(file, snapshot)

    @_of_self
    def resume(self, path: PathLike, *, missing_ok: bool = False) -> bool:
        """Restore the state at a call of `save`, on the same or on another number of ranks.

        Collective. The arguments of the trainer must be equal, except ``batch_per_rank``, which must give the same
        size of the global batch. On the same number of ranks, the run ends with the bits of an uninterrupted one.

        The learning rate is part of the optimizer's state, as in PyTorch, so that of the checkpoint replaces the one
        of the constructor; set ``optimizer.lr`` after this call to change it. Models are compared by names, shapes
        and dtypes of their parameters and buffers: layers without any, such as activations and `Dropout`, are not.

        Parameters
        ----------
        path : path
            File that rank 0 reads.
        missing_ok : bool
            Whether to return False if there is no file, instead of raising an error.

        Returns
        -------
        bool
            Whether there was a checkpoint.

        Raises
        ------
        CheckpointError
            The file is missing, damaged, of another version, or of a training with other arguments. In this case
            nothing has changed.
        """
        with collective_errors(self.comm, "resume"):
            file = check_path("path", path)
            check_flag("missing_ok", missing_ok)
        snapshot = self._files.read(file, missing_ok=missing_ok)
        if snapshot is None:
            return False
        restore(file, snapshot, self.model, self.optimizer, self.comm, self._config)
        self.position = snapshot.position
        self.history = History(snapshot.history)
        self._data = snapshot.data
        self._step.updating = False
        return True

    def _save_if_finite(self, file: Path) -> None:
        """Write a checkpoint if the parameters of all ranks are finite, so that the last good one is kept."""
        if all(self.comm.allgather(has_finite_parameters(self.model))):
            self.save(file)

    def _check_whole_steps(self) -> None:
        """Raise RuntimeError if an update was interrupted."""
        if self._step.updating:
            raise RuntimeError(f"an optimizer step was interrupted: resume from a checkpoint{see('interrupted-steps')}")

    def _done(self) -> dict[str, int]:
        """Return the numbers of completed epochs and steps, which must be equal on all ranks."""
        return {"epochs done": self.position.epoch, "steps done": self.position.step}


_FIXED = {*inspect.signature(Trainer.__init__).parameters, "global_batch"}
