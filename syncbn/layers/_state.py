"""What a state must be before any of it is copied in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def check_state(
    owner: str, targets: Mapping[str, NDArray[Any]], state: Mapping[str, ArrayLike]
) -> dict[str, NDArray[Any]]:
    """Return the values of ``state`` in the dtypes of ``targets``, all of them fit to be copied in.

    Parameters
    ----------
    owner : str
        Whose state it is, for the message.
    targets : dict of arrays
        What there is: names, shapes and dtypes.
    state : mapping of str to array_like
        Anything that ``numpy.asarray`` takes.

    Raises
    ------
    ValueError
        Names the missing and the unexpected keys and the arrays of another shape.
    TypeError
        A value of another kind of number, or none: complex for real, real for integer.
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
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, as in every conversion
        return {name: value.astype(targets[name].dtype) for name, value in values.items()}
