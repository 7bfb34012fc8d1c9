"""Records of training: the current position, one step, one epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from syncbn.other_libraries import RECORDS, unknown


@dataclass(frozen=True)
class EpochRecord:
    """Record of one epoch. A resumed run has records with the same bits, except for the seconds.

    Attributes
    ----------
    epoch : int
        Number of the epoch, counted from 1.
    steps : int
        Number of steps.
    train_loss : float
        Mean loss over the samples of the epoch, each computed in its own step.
    test_loss, test_error : float or None
        Loss and error on the validation data after the epoch. The error is a fraction of samples (0 to 1).
    seconds : float
        Time of the training steps, without evaluation, checkpoints and callbacks.
    bytes_sent : int
        Number of bytes that this rank passed to collective operations in training steps.
    lr : float
        Learning rate of the last step.
    train_error : float or None
        Fraction of the samples of the epoch (0 to 1) with a wrong class, each predicted in its own step, in training
        mode; None in records of older checkpoints.

    See Also
    --------
    syncbn.train.History : The list of all epochs.

    Examples
    --------
    >>> from syncbn.train import EpochRecord
    >>> record = EpochRecord(
    ...     epoch=1, steps=20, train_loss=1.5, test_loss=0.9, test_error=0.25, seconds=2.0, bytes_sent=0, lr=0.05
    ... )
    >>> record.test_accuracy
    0.75
    """

    epoch: int
    steps: int
    train_loss: float
    test_loss: float | None
    test_error: float | None
    seconds: float
    bytes_sent: int
    lr: float
    train_error: float | None = None

    if not TYPE_CHECKING:  # a type checker reports unknown names by itself

        def __getattr__(self, name: str) -> NoReturn:
            """Raise AttributeError, which says what there is instead of a name of Keras."""
            raise AttributeError(unknown(f"{type(self).__name__!r} object", name, RECORDS), name=name, obj=self)

    @property
    def train_accuracy(self) -> float | None:
        """1 − ``train_error``, or None."""
        return None if self.train_error is None else 1.0 - self.train_error

    @property
    def test_accuracy(self) -> float | None:
        """1 − ``test_error``, or None."""
        return None if self.test_error is None else 1.0 - self.test_error


@dataclass(frozen=True)
class Progress:
    """Record of one completed step, for ``on_step``.

    Attributes
    ----------
    epoch, epochs : int
        Number of the epoch, counted from 1, and number of epochs of the whole training.
    step, steps : int
        Number of the step in its epoch, counted from 1, and number of steps of an epoch.
    samples : int
        Size of the global batch.
    loss : float
        Mean loss over the global batch, which is equal on all ranks.
    lr : float
        Learning rate.
    seconds : float
        Time of the step.
    bytes_sent : int
        Number of bytes that this rank passed to collective operations in the step.
    wrong : int
        Number of samples of the global batch with a wrong class.

    See Also
    --------
    syncbn.train.Trainer : Its ``fit`` calls ``on_step`` with it.

    Examples
    --------
    >>> from syncbn.train import Progress
    >>> def on_step(done: Progress):
    ...     if done.step % 100 == 0:
    ...         print(f"epoch {done.epoch}, step {done.step} of {done.steps}: loss {done.loss:.3f}")
    >>> on_step(Progress(1, 3, 100, 625, 32, 0.5123, 0.05, 0.01, 0))  # as `fit(..., on_step=on_step)` calls it
    epoch 1, step 100 of 625: loss 0.512
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    samples: int
    loss: float
    lr: float
    seconds: float
    bytes_sent: int
    wrong: int = 0


@dataclass(frozen=True)
class Position:
    """Position of a training run, and sums over the steps of its current epoch.

    Attributes
    ----------
    epoch, step : int
        Number of completed epochs, and of completed steps of the next epoch.
    loss_sum : float
        Sum of the losses of these steps, each multiplied by its number of samples.
    samples, seconds, bytes_sent, wrong : int, float, int and int
        Sums over these steps, as described in `EpochRecord` and `Progress`.

    See Also
    --------
    syncbn.train.Trainer : Its attribute ``position``.

    Examples
    --------
    >>> from syncbn.train import Position
    >>> Position(epoch=2).step
    0
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    samples: int = 0
    seconds: float = 0.0
    bytes_sent: int = 0
    wrong: int = 0

    def after(self, progress: Progress) -> Position:
        """Return the position after one more step."""
        return Position(
            epoch=self.epoch,
            step=self.step + 1,
            loss_sum=self.loss_sum + progress.loss * progress.samples,
            samples=self.samples + progress.samples,
            seconds=self.seconds + progress.seconds,
            bytes_sent=self.bytes_sent + progress.bytes_sent,
            wrong=self.wrong + progress.wrong,
        )

    def record(self, lr: float, test_loss: float | None, test_error: float | None) -> EpochRecord:
        """Return the record of the epoch once all of its steps are completed."""
        return EpochRecord(
            epoch=self.epoch + 1,
            steps=self.step,
            train_loss=self.loss_sum / self.samples,
            test_loss=test_loss,
            test_error=test_error,
            seconds=self.seconds,
            bytes_sent=self.bytes_sent,
            lr=lr,
            train_error=self.wrong / self.samples,
        )
