"""Population statistics of batch normalization, over all training samples and all ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from syncbn._core.checks import check_integer, check_unmasked
from syncbn.comm import CommLike, Communicator
from syncbn.layers import Module
from syncbn.layers._batch import BatchNormalizer
from syncbn.layers.batch_renorm import BatchRenorm
from syncbn.moments import Moments, pool
from syncbn.train.buffers import copy_buffers, restore_buffers
from syncbn.train.errors import check_model, check_ranks, check_same, collective_errors, find_communicator, of_all_ranks
from syncbn.train.order import own_share
from syncbn.typing import FloatArray

Batches = FloatArray | Iterable[FloatArray | tuple[Any, ...] | list[Any]]


@of_all_ranks
def update_bn(loader: Batches, model: Module, comm: CommLike = None, *, batch_size: int = 256) -> None:
    r"""Replace the running statistics of batch normalization by those of all samples, as PreciseBN does.

    Collective. Moving averages follow the weights of earlier steps with a delay, and weight recent batches more. This
    computes the statistics of the current weights: the samples pass the model once, and

    .. math::

        \text{running_mean} &= \frac{1}{M} \sum_i m_i μ_i, \qquad M = \sum_i m_i \\
        \text{running_var} &= \frac{1}{M - 1} \sum_i m_i \left(\mathrm{var}_i + (μ_i - \text{running_mean})^2\right)

    over all batches i, with the number of values mᵢ, the mean μᵢ and the variance varᵢ of the input of a layer. All
    ranks get the same bits, for local layers too. A layer with the same global batches has the same bits on any number
    of ranks, unless its input has been rounded otherwise, as products of matrices of other shapes are.

    Only the batch normalization layers are in training mode: their inputs are normalized with the statistics of
    batches, and unlike in ``torch.optim.swa_utils.update_bn``, dropout is off. Layers whose `train` keeps them in
    evaluation mode, and those without running statistics, are left out. ``num_batches_tracked`` becomes the number of
    batches, except in `BatchRenorm`. Modes are restored. If there is an error, no buffer has changed.

    Parameters
    ----------
    loader : ndarray of shape (N, ...), or iterable
        All samples, equal on all ranks. They are divided into the fewest batches of at most ``batch_size`` samples,
        whose sizes differ by at most one, and each batch among the ranks. Or the batches of this rank: arrays, or
        tuples and lists whose first item is the array. A rank whose batches end first takes part with empty ones.
    model : Module
    comm : CommLike
        Ranks that share the samples. None means the communicator of the model's synchronized layers if all processes
        belong to it, or else COMM_WORLD; without mpi4py, this process only.
    batch_size : int
        Maximum number of samples of a batch, over all ranks. The batch of the training is a good choice.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid or differs between ranks, there are no samples, a layer gets a single value per channel,
        or layers of the model are synchronized over more ranks than share the samples.
    SyncMismatchError
        Another rank has raised one of these errors.

    See Also
    --------
    syncbn.SyncBatchNorm : Its running statistics.

    References
    ----------
    Wu & Johnson 2021, Rethinking "Batch" in BatchNorm, arXiv:2105.07576, section 3.

    Examples
    --------
    >>> from syncbn import SyncBatchNorm, data, nn, train
    >>> images = data.prepare(data.load(), flat=True)
    >>> model = nn.Sequential(nn.Dense(784, 16), SyncBatchNorm(16), nn.ReLU(), nn.Dense(16, 10))
    >>> train.update_bn(images.x_train[:512], model)
    >>> model[1].running_mean.shape
    (16,)
    """
    comm = find_communicator(comm, model)
    with collective_errors(comm, "update_bn"):
        check_model(model)
        check_ranks(comm, model)
        check_unmasked(loader, "loader")
        check_integer("batch_size", batch_size)
        layers = [m for _, m in model.named_modules() if isinstance(m, BatchNormalizer) and m.running_mean is not None]
        shape = loader.shape if isinstance(loader, np.ndarray) else None
    check_same(comm, "update_bn", {"layers": len(layers), "batch_size": batch_size, "samples": shape})
    batches = _shares(loader, comm, batch_size) if isinstance(loader, np.ndarray) else _loaded(loader, comm)
    before = copy_buffers(model.modules())
    try:
        found = _observe(model, layers, batches, comm)
    finally:
        restore_buffers(before)
    for layer, moments in zip(layers, found, strict=True):
        _replace(layer, moments)


def _observe(
    model: Module, layers: list[BatchNormalizer], batches: Iterator[FloatArray], comm: Communicator
) -> list[list[Moments]]:
    """Return the moments of all batches of all ranks, for each layer. Collective."""
    own: dict[BatchNormalizer, list[Moments]] = {layer: [] for layer in layers}

    def observe(layer: Any, _arguments: object, _result: object) -> None:
        # The ranks that share the statistics of a layer have the same ones, so one of them counts.
        if layer.training and layer.comm.rank == 0:
            moments = layer.moments
            own[layer] += [moments] * (moments.count > 0)

    with ExitStack() as stack:
        stack.enter_context(model.evaluating())
        for layer in layers:
            layer.train()
            stack.enter_context(layer.register_forward_hook(observe))
        for batch in batches:
            model(batch)
    everywhere = comm.allgather(list(own.values()))
    return [[moments for rank in everywhere for moments in rank[i]] for i in range(len(layers))]


def _replace(layer: BatchNormalizer, moments: list[Moments]) -> None:
    """Set the running statistics to those of the batches, if there are any."""
    if not moments or layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
        return
    pooled = pool(moments)
    with np.errstate(all="ignore"):  # values beyond the range of the dtype become infinite
        layer.running_mean[...] = pooled.mean
        layer.running_var[...] = pooled.unbiased_var
    if not isinstance(layer, BatchRenorm):  # its limits depend on the number of batches of the training
        layer.num_batches_tracked[...] = len(moments)


def _shares(x: FloatArray, comm: Communicator, batch_size: int) -> Iterator[FloatArray]:
    """Yield the share of this rank in every batch of the samples."""
    if not x.ndim or not len(x):
        raise ValueError(f"update_bn needs at least one sample, got an array of shape {x.shape}")
    batches = -(-len(x) // batch_size)
    for i in range(batches):
        batch = x[own_share(len(x), i, batches)]
        yield batch[own_share(len(batch), comm.rank, comm.size)]


def _loaded(loader: Iterable[Any], comm: Communicator) -> Iterator[FloatArray]:
    """Yield the batches of this rank, and empty ones as long as other ranks have some. Collective."""
    iterator, end = iter(loader), object()
    last: Any = None
    while True:
        item: Any = next(iterator, end)
        if not any(comm.allgather(item is not end)):
            break
        if item is not end:
            last = item[0] if isinstance(item, (tuple, list)) else item
        elif last is None:
            raise ValueError("loader has no batch on this rank, though others have: pass one of shape (0, ...)")
        else:
            last = last[:0]
        yield last
    if last is None:
        raise ValueError("update_bn needs at least one batch, got none on any rank")
