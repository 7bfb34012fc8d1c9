"""Checks of a ``state_dict`` before its values are copied into a layer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from syncbn._core.checks import check_unmasked, shown
from syncbn.pitfalls import see

_COUNTER = "num_batches_tracked"
_PREFIX = "module."


def with_counters(targets: Mapping[str, NDArray[Any]], state: Mapping[str, ArrayLike]) -> dict[str, ArrayLike]:
    """Return ``state`` with ``num_batches_tracked`` where ``targets`` have it next to ``running_mean``, and only there.

    A missing one is 0, if the ``running_mean`` is present. Frozen layers have none.
    """
    check_mapping(state)
    state = {**state}
    for name in targets:
        if name.endswith("running_mean"):
            counter = name.removesuffix("running_mean") + _COUNTER
            if counter not in targets:
                state.pop(counter, None)
            elif name in state:
                state.setdefault(counter, 0)
    return state


def check_mapping(state: Mapping[str, ArrayLike]) -> None:
    """Raise TypeError unless ``state`` is a mapping, and ValueError for a file that has no state."""
    if isinstance(state, np.lib.npyio.NpzFile):
        _check_file(state)
    if not isinstance(state, Mapping):
        advice = ""
        if isinstance(state, (str, os.PathLike)):
            advice = ": pass its contents, numpy.load(path)"
        elif isinstance(state, np.ndarray) and state.dtype.hasobject:  # not read: a pickle of anything
            advice = (
                ": numpy.save has written a dict as an array of one object, which .item() returns; "
                f"numpy.savez(path, **state) writes a mapping{see('states-that-do-not-fit')}"
            )
        elif hasattr(state, "state_dict"):
            advice = ": pass its .state_dict()"
        raise TypeError(f"a state_dict must be a mapping of names to arrays, got {shown(state)}{advice}")


def _check_file(file: np.lib.npyio.NpzFile) -> None:
    """Raise ValueError if the file is closed, is one of torch.save, or begins with an array of objects."""
    problem = ""
    if file.zip is None:
        problem = (
            "the file of the state_dict is closed: call load_state_dict in the with block of numpy.load(path), or "
            "without one"
        )
    elif any(name.endswith("/data.pkl") for name in file):
        problem = "the file of the state_dict is one of torch.save: read it by torch.load(path)"
    elif file.files and _has_objects(file, file.files[0]):
        problem = (
            f"{file.files[0]!r} of the file is an object, such as a whole state_dict, not an array of numbers: save "
            "the arrays by their names, numpy.savez(path, **state)"
        )
    if problem:
        raise ValueError(f"{problem}{see('states-that-do-not-fit')}")


def _has_objects(file: np.lib.npyio.NpzFile, name: str) -> bool:
    """Return whether an array is one of objects, which numpy.load refuses by default."""
    try:
        return bool(file[name].dtype.hasobject)
    except ValueError as error:
        return "allow_pickle" in str(error)


def check_state(
    owner: str, targets: Mapping[str, NDArray[Any]], state: Mapping[str, ArrayLike], strict: bool = True
) -> tuple[dict[str, NDArray[Any]], list[str], list[str]]:
    """Return the values of ``state`` in the dtypes of ``targets``, the missing keys, and the unexpected keys.

    Parameters
    ----------
    owner : str
        Name of the layer, for error messages.
    targets : dict of arrays
        Parameters and buffers of the layer, by name.
    state : mapping of str to array_like
        Values that ``numpy.asarray`` accepts.
    strict : bool
        Whether missing and unexpected keys are errors.

    Raises
    ------
    ValueError
        Keys are missing or unexpected, arrays have another shape, or the state is a checkpoint of a trainer. The
        message has their names.
    TypeError
        A dtype cannot be converted: complex to real, real to integer, or not numeric.
    """
    check_mapping(state)
    if {"meta", "buffers"} <= state.keys() - targets.keys():
        raise ValueError(
            "a checkpoint of a Trainer is not a state_dict: call Trainer.resume(path), or load its arrays 'model.NAME' "
            f"as NAME (those of the optimizer are 'optimizer.NAME'){see('checkpoints')}"
        )
    values = {name: _as_array(owner, name, state[name]) for name in targets if name in state}
    missing = [name for name in targets if name not in state]
    unexpected = [name for name in state if name not in targets]
    problems = [f"missing {name!r}" for name in missing if strict]
    problems += [f"unexpected {name!r}" for name in unexpected if strict]
    problems += [
        f"{name!r} has shape {value.shape}, expected {targets[name].shape}"
        for name, value in values.items()
        if value.shape != targets[name].shape
    ]
    if problems:
        prefixed = all(name.startswith(_PREFIX) for name in state) and targets.keys() <= {each[7:] for each in state}
        advice = f". Remove the prefix {_PREFIX!r}, that of DistributedDataParallel" if prefixed else ""
        problem = f"{'; '.join(problems)}{advice}{see('states-that-do-not-fit')}"
        raise ValueError(f"state_dict does not fit {owner}: {problem}")
    for name, value in values.items():
        if not np.can_cast(value.dtype, targets[name].dtype, "same_kind"):
            raise TypeError(
                f"state_dict does not fit {owner}: {name!r} is {value.dtype}, not {targets[name].dtype}"
                f"{see('states-that-do-not-fit')}"
            )
    with np.errstate(all="ignore"):  # values beyond the range of float32 become infinite, as in every conversion
        values = {name: value.astype(targets[name].dtype) for name, value in values.items()}
    return values, missing, unexpected


def _as_array(owner: str, name: str, value: ArrayLike) -> NDArray[Any]:
    """Return a value as an array, or raise TypeError with its name if NumPy cannot read it, as for bfloat16 tensors."""
    check_unmasked(value, name)
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"state_dict does not fit {owner}: {name!r} is not an array of numbers ({error}): "
            f"convert it, a tensor as by .float().numpy(){see('states-that-do-not-fit')}"
        ) from error
