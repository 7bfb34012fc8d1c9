"""Where training is, and what it has seen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRecord:
    """One epoch. A resumed training gives the same numbers, to the last bit, except for the seconds.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    steps : int
    train_loss : float
        Mean over the epoch's samples, each at its own step.
    test_loss, test_error : float or None
        Afterwards, on the validation data. The error is a share of samples (0 to 1).
    seconds : float
        Of training steps, without evaluation, checkpoints and callbacks.
    bytes_sent : int
        What this rank handed to collectives in training steps.
    lr : float
        Learning rate of the last step.
    """

    epoch: int
    steps: int
    train_loss: float
    test_loss: float | None
    test_error: float | None
    seconds: float
    bytes_sent: int
    lr: float


@dataclass(frozen=True)
class Progress:
    """One step that has been done, for ``on_step``.

    Attributes
    ----------
    epoch, epochs : int
        Number of the epoch, from 1, and how many there will be.
    step, steps : int
        Number of the step in its epoch, from 1, and how many an epoch has.
    samples : int
        Size of the global batch.
    loss : float
        Mean over the global batch, the same on all ranks.
    lr : float
    seconds : float
        Of this step.
    bytes_sent : int
        In this step.
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


@dataclass(frozen=True)
class Position:
    """Where training is: so many whole epochs and so many steps more, with the sums over these.

    Attributes
    ----------
    epoch, step : int
    loss_sum : float
        Of each step's loss times its samples.
    samples : int
    seconds : float
    bytes_sent : int
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    samples: int = 0
    seconds: float = 0.0
    bytes_sent: int = 0

    def after(self, progress: Progress) -> Position:
        """Return the position after one step more."""
        return Position(
            epoch=self.epoch,
            step=self.step + 1,
            loss_sum=self.loss_sum + progress.loss * progress.samples,
            samples=self.samples + progress.samples,
            seconds=self.seconds + progress.seconds,
            bytes_sent=self.bytes_sent + progress.bytes_sent,
        )

    def record(self, lr: float, test_loss: float | None, test_error: float | None) -> EpochRecord:
        """Return the record of the epoch, whose steps are all done."""
        return EpochRecord(
            epoch=self.epoch + 1,
            steps=self.step,
            train_loss=self.loss_sum / self.samples,
            test_loss=test_loss,
            test_error=test_error,
            seconds=self.seconds,
            bytes_sent=self.bytes_sent,
            lr=lr,
        )
