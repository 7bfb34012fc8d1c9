"""The check of a ``state_dict`` before its values are copied into a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def check_state(
    owner: str, targets: Mapping[str, NDArray[Any]], state: Mapping[str, ArrayLike]
) -> dict[str, NDArray[Any]]:
    """Return the values of ``state`` in the dtypes of ``targets``, or raise if one of them cannot be copied there.

    Parameters
    ----------
    owner : str
        Name of the layer, for error messages.
    targets : dict of arrays
        Parameters and buffers of the layer, by name.
    state : mapping of str to array_like
        Values that ``numpy.asarray`` accepts.

    Raises
    ------
    ValueError
        Keys are missing or unexpected, or arrays have another shape. The message has their names.
    TypeError
        A value is of another kind: complex for real, real for integer, or no number.
    """
    values = {name: np.asarray(state[name]) for name in targets if name in state}
    problems = [f"missing {name!r}" for name in targets if name not in state]
    problems += [f"unexpected {name!r}" for name in state if name not in targets]
    problems += [
        f"{name!r} has shape {value.shape}, expected {targets[name].shape}"
        for name, value in values.items()
        if value.shape != targets[name].shape
    ]
    if problems:
        raise ValueError(f"state_dict does not fit {owner}: " + "; ".join(problems))
    for name, value in values.items():
        if not np.can_cast(value.dtype, targets[name].dtype, "same_kind"):
            raise TypeError(f"state_dict does not fit {owner}: {name!r} is {value.dtype}, not {targets[name].dtype}")
    with np.errstate(over="ignore"):  # values beyond the range of float32 become infinite, as in every conversion
        return {name: value.astype(targets[name].dtype) for name, value in values.items()}
