"""Equal parameters on all ranks, and averages of their gradients, without DistributedDataParallel."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from syncbn._core.checks import check_integer, compares_parameters
from syncbn.comm import CollectiveSignature, CommLike, Communicator, as_communicator
from syncbn.comm.collective import collective
from syncbn.pitfalls import see
from syncbn.torch.agreement import ADVICE, checksums
from syncbn.torch.groups import default_communicator
from syncbn.torch.tensors import check_module

_calls: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""Number of calls of `average_gradients` for each model."""

_warned: WeakSet[nn.Module] = WeakSet()
"""The models in evaluation mode of which rank 0 has warned."""

_EVALUATION = (
    "the model is in evaluation mode, so its batch normalization layers use their running statistics and keep them: "
    "call model.train() after an evaluation; to train with fixed statistics, call model.train() and then eval() of "
    f"these layers{see('layers-in-evaluation')}"
)


def _communicator(comm: CommLike) -> Communicator:
    return default_communicator() if comm is None else as_communicator(comm)


_of_comm = collective(lambda passed: _communicator(passed.get("comm")))


@_of_comm
def broadcast_parameters(module: nn.Module, comm: CommLike = None) -> None:
    """Copy the parameters and buffers of rank 0 to all ranks.

    Collective. Call it before training, and after loading a state on rank 0.

    Parameters
    ----------
    module : torch.nn.Module
        Model with CPU tensors.
    comm : syncbn communicator or mpi4py.MPI.Intracomm, optional
        Ranks that train. Default: as for `SyncBatchNorm`.

    Raises
    ------
    TypeError
        ``module`` is not a Module, or a tensor is sparse or not on the CPU.
    SyncMismatchError
        Ranks have models with different names, shapes or dtypes, or another rank had an invalid argument.

    See Also
    --------
    syncbn.torch.average_gradients : After each backward.

    Examples
    --------
    >>> import torch
    >>> from syncbn.torch import broadcast_parameters
    >>> model = torch.nn.Linear(4, 3)
    >>> broadcast_parameters(model)  # those of rank 0
    """
    check_module(module)
    communicator = _communicator(comm)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, tensor in tensors.items():
        _check_dense(name, tensor)
    with torch.no_grad():
        parts = [_bytes(tensor) for tensor in tensors.values()]
        packed = torch.cat([torch.zeros(1, dtype=torch.uint8), *parts])
        communicator._protocol.handshake(_signature("broadcast_parameters", tensors))
        communicator._protocol.broadcast(packed.numpy(), 0)
        for tensor, part in zip(tensors.values(), packed[1:].split([len(part) for part in parts]), strict=True):
            tensor.copy_(part.clone().view(tensor.dtype).view(tensor.shape))


@_of_comm
def average_gradients(module: nn.Module, comm: CommLike = None) -> None:
    """Replace the gradients of all parameters by their averages over ranks, Σᵣ gᵣ/P.

    Collective. All gradients are one message. This is what DistributedDataParallel does: right if the loss of each rank
    is a mean over equally many samples. For uneven batches multiply the loss by `loss_weight`. (Weights for the
    gradients instead would be wrong, because the backward of `SyncBatchNorm` mixes the losses of all ranks.)

    A parameter without gradient counts as zeros, unless no rank has one; then it remains without. No gradient at all is
    an error.

    Parameters
    ----------
    module : torch.nn.Module
        Model with CPU tensors.
    comm : syncbn communicator or mpi4py.MPI.Intracomm, optional
        Ranks that train. Default: as for `SyncBatchNorm`.

    Raises
    ------
    TypeError
        ``module`` is not a Module, or a parameter or gradient is sparse or not on the CPU.
    RuntimeError
        No parameter has a gradient on any rank.
    ValueError
        Ranks have different values of the parameters, which calls 1, 2, 4, 8 and so on and every hundredth check.
    SyncMismatchError
        Ranks have models with different names, shapes or dtypes, or another rank had an invalid argument.

    Warns
    -----
    RuntimeWarning
        On rank 0, once: the model is in evaluation mode, and has batch normalization layers.

    See Also
    --------
    syncbn.torch.broadcast_parameters : Before the training.
    syncbn.torch.loss_weight : Batches of unequal sizes.

    Examples
    --------
    >>> import torch
    >>> from syncbn.torch import average_gradients
    >>> model = torch.nn.Linear(4, 3)
    >>> model(torch.ones(2, 4)).sum().backward()
    >>> average_gradients(model)  # before optimizer.step()
    >>> model.bias.grad
    tensor([2., 2., 2.])
    """
    check_module(module)
    communicator = _communicator(comm)
    if not module.training and communicator.rank == 0 and module not in _warned and _keeps_statistics(module):
        _warned.add(module)
        # The warning points to the caller of `average_gradients`, which is decorated.
        warnings.warn(_EVALUATION, RuntimeWarning, stacklevel=3)
    parameters = dict(module.named_parameters())
    dtype = torch.float64 if any(each.dtype == torch.float64 for each in parameters.values()) else torch.float32
    present = torch.tensor([each.grad is not None for each in parameters.values()], dtype=dtype)
    parts = [_gradient(name, each).to(dtype).reshape(-1) for name, each in parameters.items()]
    packed = torch.cat([present, *parts])
    _calls[module] = calls = _calls.get(module, 0) + 1
    protocol: Any = communicator._protocol
    maxima = protocol.max_buffer(2)
    maxima[:] = -np.inf
    if compares_parameters(calls) and all(bool(each.isfinite().all()) for each in parameters.values()):
        maxima[:] = checksums(_bytes(each).numpy() for each in parameters.values())
    protocol.handshake(_signature("average_gradients", parameters), maxima)
    differ = maxima.sum() > 0
    protocol.sum(packed.numpy())
    if differ:
        raise ValueError(f"parameters differ between ranks: {ADVICE}")
    present, *parts = packed.split([len(present), *(len(part) for part in parts)])
    if parts and not present.any():
        raise RuntimeError("no parameter has a gradient on any rank: call loss.backward() before average_gradients")
    for each, count, part in zip(parameters.values(), present.tolist(), parts, strict=True):
        if count:
            each.grad = (part / communicator.size).view(each.shape).to(each.dtype)


@_of_comm
def loss_weight(samples: int, comm: CommLike = None) -> float:
    """Return P·nᵣ/Σᵣ nᵣ, by which a rank multiplies the mean loss of its nᵣ samples if ranks have uneven batches.

    Collective. The average over the P ranks of these losses, and of their gradients, is the mean over the samples of
    all ranks, with DistributedDataParallel as well as with `average_gradients`. It is 1 for even batches, and 0 if no
    rank has samples.

    Parameters
    ----------
    samples : int
        Number of samples of this rank.
    comm : syncbn communicator or mpi4py.MPI.Intracomm, optional
        Ranks that train. Default: as for `SyncBatchNorm`.

    Raises
    ------
    TypeError, ValueError
        ``samples`` is not an integer, or negative.
    SyncMismatchError
        Another rank had an invalid argument.

    See Also
    --------
    syncbn.torch.average_gradients : The averages.

    Examples
    --------
    >>> import torch
    >>> from syncbn.torch import loss_weight
    >>> logits, labels = torch.zeros(3, 10), torch.tensor([1, 2, 3])
    >>> loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / max(len(labels), 1)
    >>> loss = loss * loss_weight(len(labels))
    >>> round(loss.item(), 4)
    2.3026
    """
    total = np.array([check_integer("samples", samples, 0)], np.int64)
    communicator = _communicator(comm)
    communicator.allreduce(total)
    return communicator.size * samples / max(1, int(total[0]))


def _keeps_statistics(module: nn.Module) -> bool:
    """Return whether a module has batch normalization layers with running statistics."""
    return any(isinstance(each, _BatchNorm) and each.running_mean is not None for each in module.modules())


def _bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of a dense tensor."""
    return tensor.detach().contiguous().view(-1).view(torch.uint8)


def _gradient(name: str, parameter: Tensor) -> Tensor:
    _check_dense(name, parameter)
    if parameter.grad is None:
        return torch.zeros_like(parameter.detach())
    _check_dense(f"the gradient of {name}", parameter.grad)
    return parameter.grad.detach()


def _check_dense(name: str, tensor: Tensor) -> None:
    """Raise TypeError unless a tensor has values in the memory of the CPU."""
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} is sparse, expected a dense tensor: call to_dense()")
    if tensor.device.type != "cpu":
        raise TypeError(f"{name} is on device {tensor.device}, expected the CPU: call model.cpu() first")


def _signature(operation: str, tensors: Mapping[str, Tensor]) -> CollectiveSignature:
    """Return the signature of a call about tensors whose names, shapes and dtypes must agree."""
    described = "; ".join(f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in tensors.items())
    digest = hashlib.blake2b(described.encode(), digest_size=8).hexdigest()
    arguments = ("tensors", len(tensors)), ("names, shapes and dtypes (hash)", digest)
    return CollectiveSignature(operation, arguments, has_data=True)
