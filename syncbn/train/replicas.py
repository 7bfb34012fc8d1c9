"""The two calls that make a training loop data-parallel: equal parameters on all ranks, and sums of their gradients."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from syncbn._core.checks import compares_parameters
from syncbn.comm import CommLike
from syncbn.layers import Module, Parameter
from syncbn.layers._losses import forget_losses, used_losses
from syncbn.nn import Dropout, Optimizer
from syncbn.nn._checks import as_number
from syncbn.pitfalls import see
from syncbn.train.buffers import pack, unpack
from syncbn.train.config import describe_model, describe_optimizer
from syncbn.train.consistency import check_parameters
from syncbn.train.errors import (
    check_model,
    check_ranks,
    check_same,
    collective_errors,
    find_communicator,
    of_all_ranks,
    raised_by_all,
)
from syncbn.train.gradients import FlatGradients
from syncbn.train.mistakes import missing_gradient, number_of_ranks, wrong_normalizer, wrong_shares
from syncbn.train.shares import take_share


@of_all_ranks
def broadcast_parameters(model: Module, comm: CommLike = None, optimizer: Optimizer | None = None) -> None:
    """Copy the parameters and buffers of rank 0 to all ranks, and the state of the optimizer if it is given.

    Collective. Call it before training, and again after loading a state on rank 0. From then on, optimizers accept
    only gradients that `sum_gradients` has summed. Each `Dropout` draws other numbers on each rank.

    Parameters
    ----------
    model : Module
    comm : CommLike
        Ranks that train. None means the communicator of the model's synchronized layers if all processes belong
        to it, or else COMM_WORLD; without mpi4py, this process only.
    optimizer : Optimizer, optional
        Optimizer whose learning rate and state, such as momentum, are copied too.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid, ranks have models or optimizers with different names, shapes or dtypes, or layers of
        the model are synchronized over more ranks than train.
    SyncMismatchError
        Another rank has an invalid argument.

    See Also
    --------
    syncbn.train.sum_gradients : After each backward.
    syncbn.train.Trainer : Makes these calls.

    Examples
    --------
    >>> from syncbn import SyncBatchNorm, data, nn, train
    >>> images = data.prepare(data.load(), flat=True)
    >>> model = nn.Sequential(nn.Dense(784, 16), SyncBatchNorm(16), nn.ReLU(), nn.Dense(16, 10))
    >>> optimizer = nn.SGD(model.parameters(), lr=0.05)
    >>> comm = model[1].comm
    >>> train.broadcast_parameters(model, comm)
    >>> for batch in train.DataOrder(256, 8 * comm.size, seed=0).batches(epoch=0):
    ...     own = batch[train.shard(len(batch), comm.rank, comm.size)]
    ...     logits, backward = model(images.x_train[own])
    ...     loss, dlogits = nn.softmax_cross_entropy(logits, images.y_train[own], len(batch))
    ...     dx = backward(dlogits)
    ...     loss = train.sum_gradients(model, comm, loss)
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    """
    comm = find_communicator(comm, model)
    with collective_errors(comm, "broadcast of parameters"):
        check_model(model)
        if not (optimizer is None or isinstance(optimizer, Optimizer)):
            raise TypeError(f"optimizer must be an Optimizer, got {type(optimizer).__name__}")
        check_ranks(comm, model)
        parameters = list(model.parameters())
        state = {} if optimizer is None else optimizer.state_dict()
        described = {
            "optimizer": None if optimizer is None else describe_optimizer(optimizer),
            **describe_model(model),
            **{f"optimizer's {name}": f"{array.dtype} {array.shape}" for name, array in state.items()},
        }
    check_same(comm, "broadcast_parameters", described)
    arrays = [*(parameter.data for parameter in parameters), *(a for _, a in model.named_buffers()), *state.values()]
    if comm.size > 1:
        packed = pack(arrays)
        comm.broadcast(packed)
        unpack(packed, arrays)
        if optimizer is not None:
            optimizer.load_state_dict(state)
    for parameter in parameters:
        parameter.replicated = comm.size > 1
        parameter.version += comm.size > 1
    for _, module in model.named_modules():
        if isinstance(module, Dropout):
            module.rank = comm.rank
    forget_losses()  # those of a training on this rank alone


@of_all_ranks
def sum_gradients(model: Module, comm: CommLike = None, loss: float = 0.0) -> float:
    """Replace the gradients of all parameters by their sums over ranks, and return the sum of ``loss``.

    Collective. All gradients and the loss are one message. If every rank has divided its loss by the number of samples
    of *all* ranks, the sums are the mean loss over the global batch and its gradient, for any split of the samples. The
    numbers that were passed to the losses of `syncbn.nn` are compared: the samples of all ranks, divided by the
    normalizers, must add up to a whole number, which is 1 for a mean and the number of samples for a sum.

    Calls 1, 2, 4, 8 and so on, every hundredth, and those after any rank has changed its parameters other than by one
    step of an optimizer also call `check_parameters`, and check that each rank has taken its own share of the same
    batch, if these are from `shard` and `DataOrder`.

    Parameters
    ----------
    model : Module
    comm : CommLike
        Ranks that train, as in `broadcast_parameters`: None means the communicator of the model's synchronized layers
        if all processes belong to it, or else COMM_WORLD; without mpi4py, this process only.
    loss : float
        Loss of this rank, which is added to those of the others.

    Raises
    ------
    ValueError
        The model is in evaluation mode, the loss was not divided by the number of samples of all ranks, ranks have
        taken other shares than their own, or layers of the model are synchronized over more ranks than train.
    TypeError
        ``model`` is not a Module, or ``loss`` is not a number.
    RuntimeError
        There are no gradients, a parameter of a layer in training mode has none on any rank, or they are summed
        already.
    ParameterMismatchError
        Ranks have different parameters or synchronized running statistics.
    SyncMismatchError
        Another rank has raised one of these errors, or has another model.

    Warns
    -----
    RuntimeWarning
        On rank 0, once: the loss is not finite, or it was divided by the number of ranks, or the optimizer has changed
        some parameters in its first step, but left others that have gradients and whose layers are in training mode.

    See Also
    --------
    syncbn.train.broadcast_parameters : Before the training.
    syncbn.train.FlatGradients : The sums without the checks.

    Examples
    --------
    >>> from syncbn import SyncBatchNorm, data, nn, train
    >>> images = data.prepare(data.load(), flat=True)
    >>> model = nn.Sequential(nn.Dense(784, 16), SyncBatchNorm(16), nn.ReLU(), nn.Dense(16, 10))
    >>> train.broadcast_parameters(model)
    >>> logits, backward = model(images.x_train[:4])  # 4 samples of each rank
    >>> samples = 4 * model[1].comm.size
    >>> loss, dlogits = nn.softmax_cross_entropy(logits, images.y_train[:4], samples)
    >>> dx = backward(dlogits)
    >>> loss = train.sum_gradients(model, loss=loss)  # of all ranks
    """
    comm = find_communicator(comm, model)
    sums = _sums_of(model)
    with comm._protocol.collective_errors(sums.flat.signature, handshake=True):
        _check_ready(model)
        losses, share_of_batch = used_losses(), take_share()
        forget_losses()
        missing = sums.names_of(model, [parameter.grad is not None for parameter in sums.flat.parameters])
        checks = sums.wants_check(model) or bool(missing)
        if checks:
            check_ranks(comm, model)
        sums.flat.take(as_number("loss", loss, _LOSS), checks, losses.own_mean, losses.share)
    sums.flat.finish(comm)
    total, checks, own_means, share = sums.flat.scalars.tolist()
    if wrong := wrong_normalizer(losses, round(own_means), share, comm):
        raise raised_by_all(wrong, comm)
    if checks:
        known = comm.allgather((share_of_batch, missing, losses.last))
        shares, missing_everywhere, last_losses = zip(*known, strict=True)
        if mistake := wrong_shares(shares) or missing_gradient(missing_everywhere):
            raise raised_by_all(mistake, comm)
        check_parameters(model, comm)
        if comm.rank == 0 and sums.calls == 1 and (problem := number_of_ranks(last_losses)):
            _warn(problem, "losses-of-ranks")
    if comm.rank == 0:
        if sums.unchanged:
            _warn(
                f"the optimizer has not changed parameter {sums.unchanged[0]!r}, though it has changed others: was its "
                "layer replaced or added after the optimizer was made? If it is not to be trained, call the eval() of "
                "its layer",
                "optimizers",
            )
        if not sums.diverged and not math.isfinite(total):
            sums.diverged = True
            _warn(
                f"training has diverged: the sum of the losses is {total:g}, or samples or parameters are not finite",
                "training-that-diverges",
            )
    return float(total)


_LOSS = ": pass the loss of this rank, the first of the two results of a loss such as nn.softmax_cross_entropy"


def _warn(problem: str, anchor: str) -> None:
    # The warning points to the caller of `sum_gradients`, which is decorated.
    warnings.warn(f"{problem}{see(anchor)}", RuntimeWarning, stacklevel=4)


def _check_ready(model: Module) -> None:
    """Raise unless the model has been trained by a backward since the last sum."""
    check_model(model)
    if not model.training:
        raise ValueError("the model is in evaluation mode: call model.train() after an evaluation")
    parameters = list(model.parameters())
    if any(parameter.summed for parameter in parameters):
        raise RuntimeError("gradients are summed already: call zero_grad, forward and backward before the next sum")
    if all(parameter.grad is None for parameter in parameters):
        raise RuntimeError("no parameter has a gradient: call backward first, also for a batch without samples")


class _Sums:
    """The sums of a model's gradients, and what is known of its parameters at the last one."""

    def __init__(self, flat: FlatGradients) -> None:
        self.flat = flat
        self.kinds = _kinds(flat.parameters)
        self.calls = 0
        self.unchanged: list[str] = []
        self.diverged = False
        self.versions = [0] * len(flat.parameters)

    def names_of(self, model: Module, counts: Sequence[int]) -> list[str]:
        """Return the names of the parameters whose count is 0, without those of layers in evaluation mode."""
        if all(counts):
            return []
        wanted = {id(parameter) for parameter, count in zip(self.flat.parameters, counts, strict=True) if not count}
        fixed = {id(each) for module in model.modules() if not module.training for each in module.parameters()}
        return [name for name, parameter in model.named_parameters() if id(parameter) in wanted - fixed]

    def wants_check(self, model: Module) -> bool:
        """Return whether parameters could differ between ranks: at the beginning, after changes, and from time to time.

        The second call detects optimizers that differ, and the first one all else that was forgotten at the beginning.
        """
        before, self.versions = self.versions, [parameter.version for parameter in self.flat.parameters]
        steps = [now - then for now, then in zip(self.versions, before, strict=True)]
        stepped = set(steps) <= {0, 1}
        self.calls += 1
        self.unchanged = []
        if self.calls == 2 and set(steps) == {0, 1}:
            self.unchanged = self.names_of(model, steps)
        return not stepped or compares_parameters(self.calls)


def _kinds(parameters: Sequence[Parameter]) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
    return [(parameter.data.shape, parameter.data.dtype) for parameter in parameters]


_sums: WeakKeyDictionary[Module, _Sums] = WeakKeyDictionary()


def _sums_of(model: Module) -> _Sums:
    """Return the sums of this model, made again if its parameters, shapes or dtypes have changed."""
    parameters = list(model.parameters()) if isinstance(model, Module) else []
    sums = _sums.get(model) if parameters else None
    if sums is None or sums.flat.parameters != parameters or sums.kinds != _kinds(parameters):
        sums = _Sums(FlatGradients(parameters, scalars=4))
        if parameters:
            _sums[model] = sums
    return sums
