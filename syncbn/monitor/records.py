"""Records of one layer in one step, and their file of JSON lines."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from syncbn.files import check_path, open_regular
from syncbn.layers._batch import BatchNormalizer

Record = dict[str, Any]
PathLike = str | os.PathLike[str]


@np.errstate(all="ignore")  # what is not finite is null in the file
def statistics(layer: BatchNormalizer) -> Record:
    """Return the statistics of the last batch in training, the running statistics, and their distances."""
    moments = layer.moments
    if moments is None:
        return {}
    found: Record = {"batch_mean": moments.mean, "batch_var": moments.var}
    if layer.running_mean is not None and layer.running_var is not None:
        mean, var, eps = layer.running_mean.astype(np.float64), layer.running_var.astype(np.float64), layer.eps or 0.0
        found |= {
            "running_mean": mean,
            "running_var": var,
            "mean_distance": _root_mean_square((moments.mean - mean) / np.sqrt(var + eps)),
            "var_distance": _root_mean_square(np.log((moments.unbiased_var + eps) / (var + eps))),
        }
    return found


def as_line(record: Record) -> str:
    """Return a record as a line of JSON; numbers that are not finite become null."""
    return json.dumps(_jsonable(record), allow_nan=False) + "\n"


def read_records(path: PathLike) -> list[Record]:
    """Return the records that a `Monitor` has written.

    Not collective. A last line without an end, which a killed run may leave, is ignored.

    Parameters
    ----------
    path : path
        File of JSON lines.

    Returns
    -------
    list of dict
        One for each layer and step, as described in `Monitor`.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        A line is not JSON.

    See Also
    --------
    syncbn.monitor.plot : Draw the records.

    Examples
    --------
    >>> import numpy as np
    >>> from syncbn import BatchNorm, SerialComm, nn
    >>> from syncbn.monitor import Monitor
    >>> model = nn.Sequential(nn.Dense(4, 3), BatchNorm(3), nn.ReLU())
    >>> with Monitor(model, "run.jsonl", SerialComm()) as monitor:
    ...     y, backward = model(np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32))
    ...     dx = backward(y)
    >>> from syncbn.monitor import read_records
    >>> [record["type"] for record in read_records("run.jsonl")]
    ['Dense', 'BatchNorm', 'ReLU']
    """
    with open_regular(check_path("path", path)) as file:
        content = file.read()
    try:
        *lines, _ = content.decode().split("\n")
        return [json.loads(line) for line in lines]
    except ValueError as error:  # also of the encoding
        raise ValueError(f"{os.fspath(path)} is not a file of JSON lines: {error}") from None


def _root_mean_square(values: np.ndarray[Any, Any]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [_jsonable(item) for item in value.tolist()]
    return None if isinstance(value, float) and not np.isfinite(value) else value
