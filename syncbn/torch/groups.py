"""Groups: the ranks that share the statistics of a layer."""

from __future__ import annotations

from functools import cache
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch.distributed as dist

from syncbn.comm import SERIAL, CommLike, Communicator, as_communicator
from syncbn.comm.cache import world_of_launcher
from syncbn.comm.launcher import check_alone
from syncbn.comm.signature import Signatures
from syncbn.torch.distributed import TorchComm

LOCAL = 0
"""The key of this process alone."""

_keys = count(LOCAL + 1)

_groups: WeakValueDictionary[int, Group] = WeakValueDictionary()
"""Groups by their keys. Operators take keys, since they accept only tensors, numbers and text."""


class Group(Signatures):
    """Ranks that share statistics. Not collective.

    Copies of a layer have the same group, and so does a layer that was loaded from a file, if it has the default group.

    Parameters
    ----------
    comm : Communicator, optional
        Communicator of the ranks. Default: the one that `default_communicator` returns at each call.
    process_group : torch.distributed.ProcessGroup, optional
        The process group of the communicator, if it was made of one that a user passed.

    Attributes
    ----------
    key : int
        Number of this group, which operators take.
    """

    def __init__(self, comm: Communicator | None = None, process_group: Any = None) -> None:
        self._comm = comm
        self.process_group = process_group
        self.key: int = next(_keys)
        _groups[self.key] = self

    def find(self) -> Communicator:
        """Return the communicator. Collective where the default communicator has to be made."""
        return default_communicator() if self._comm is None else self._comm

    def identify(self, kind: str) -> str:
        """Return the identity of a new layer: ``kind`` and its number on the communicator."""
        register = self.register_layer if self._comm is None else self._comm._protocol.register_layer
        return register(kind)

    def __deepcopy__(self, memo: object) -> Group:
        return self

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return group_of, (self._comm,)


def group_of(comm: CommLike = None, process_group: Any = None) -> Group:
    """Return the group of a communicator or of a process group; without both, the default group.

    Collective where the communicator of a process group or an mpi4py communicator has to be made.

    Raises
    ------
    TypeError
        ``comm`` is not a communicator, or ``process_group`` is not a process group.
    ValueError
        Both are given.
    """
    if comm is not None and process_group is not None:
        raise ValueError("pass either comm or process_group, not both")
    if process_group is not None:
        return Group(TorchComm.of(process_group), process_group)
    return _DEFAULT if comm is None else Group(as_communicator(comm))


def find_group(key: int) -> Group | None:
    """Return the group with this key; None for this process alone. A graph keeps it, since its layer may be gone."""
    return None if key == LOCAL else _groups[key]


def communicator_of(key: int) -> Communicator:
    """Return the communicator of the group with this key; 0 is this process alone."""
    return SERIAL if key == LOCAL else _groups[key].find()


def default_communicator() -> Communicator:
    """Return the communicator of MPI's ranks if there are several, of the default process group, or of this process.

    Collective where one has to be made.

    Raises
    ------
    RuntimeError
        A launcher started several processes, but neither MPI nor torch.distributed connects them, so that each would
        train alone.
    """
    world = world_of_launcher()
    if world is not None:
        return world
    if dist.is_available() and dist.is_initialized():
        return TorchComm.of(dist.group.WORLD)
    _check_alone()
    return SERIAL


@cache
def _check_alone() -> None:
    """Raise RuntimeError if a launcher started several processes; otherwise the environment is read once."""
    check_alone(
        "there is no process group",
        "Call torch.distributed.init_process_group('gloo') before the first training step, and destroy_process_group() "
        "after the last one",
    )


_DEFAULT = Group()
