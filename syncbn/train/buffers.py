"""Buffers (running statistics) that may differ between ranks.

The running statistics of local batch normalization differ between ranks, which have different samples. Evaluation and
checkpoints use those of rank 0, as in PyTorch's DistributedDataParallel, and do not change those of the other ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.comm import Communicator
from syncbn.layers import Module

UInt8Array = NDArray[np.uint8]


def pack(arrays: Iterable[NDArray[Any]]) -> UInt8Array:
    """Return the concatenated bytes of arrays of any dtype, including those that MPI does not have."""
    return np.frombuffer(bytearray().join(array.tobytes() for array in arrays), np.uint8)


def unpack(packed: UInt8Array, arrays: Iterable[NDArray[Any]]) -> None:
    """Copy ``packed``, a result of `pack`, to arrays of the same sizes and dtypes."""
    stored, start = packed.tobytes(), 0
    for array in arrays:
        values = np.frombuffer(stored, array.dtype, array.size, offset=start)
        array[...] = values.reshape(array.shape)
        start += array.nbytes


def pack_buffers(model: Module) -> UInt8Array:
    """Return the bytes of all buffers."""
    return pack(array for _, array in model.named_buffers())


def unpack_buffers(model: Module, packed: UInt8Array) -> None:
    """Copy ``packed``, a result of `pack_buffers` of the same model, to its buffers."""
    unpack(packed, (array for _, array in model.named_buffers()))


def copy_buffers(modules: Iterable[Module]) -> list[tuple[Module, str, NDArray[Any]]]:
    """Return copies of the buffers of modules, for `restore_buffers`."""
    named = ((module, name, getattr(module, name)) for module in modules for name in module._buffer_names)
    return [(module, name, array.copy()) for module, name, array in named if array is not None]


def restore_buffers(copies: Iterable[tuple[Module, str, NDArray[Any]]]) -> None:
    """Give the buffers the values that they had when `copy_buffers` was called."""
    for module, name, values in copies:
        getattr(module, name)[...] = values


@contextmanager
def rank_0_buffers(model: Module, comm: Communicator) -> Iterator[None]:
    """Return a context in which the model has the buffers of rank 0. Collective."""
    own = pack_buffers(model)
    if comm.size == 1 or own.size == 0:
        yield
        return
    shared = own.copy()
    comm.broadcast(shared)
    unpack_buffers(model, shared)
    try:
        yield
    finally:
        unpack_buffers(model, own)


def gather_buffers(model: Module, comm: Communicator) -> list[UInt8Array] | None:
    """Return `pack_buffers` of every rank, or None if ``state_dict`` has them because all are equal. Collective."""
    own = pack_buffers(model)
    first = own.copy()
    comm.broadcast(first)
    transient = any(module._transient_names for _, module in model.named_modules())
    if not any(comm.allgather(transient or not np.array_equal(own, first))):
        return None
    return comm.allgather(own)
