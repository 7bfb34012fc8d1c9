"""The short way of plain arrays, in compiled code (see ext/plain.pxd); None where kernels are their twins.

Its methods return None for what isn't plain, which then goes the general way, in Python.
"""

from __future__ import annotations

from typing import Any

from syncbn._core.batch import MOST_ROWS
from syncbn._core.features import PARTS
from syncbn._core.kernels import compiled, kernels, which
from syncbn._core.threads import threads_for


def _short_way(name: str, kind: str, *constants: Any) -> Any:
    if which == "reference":
        return None
    return getattr(compiled(name), kind)(kernels, threads_for, *constants)


batch = _short_way("plain_batch", "Batch", MOST_ROWS)
features = _short_way("plain_features", "Features", PARTS)
groups = _short_way("plain_groups", "Groups")
ranks = _short_way("plain_ranks", "Ranks", MOST_ROWS)
