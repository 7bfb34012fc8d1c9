"""The messages of collective calls: compiled, or their readable twins."""

from __future__ import annotations

from typing import Any

import numpy as np

from syncbn._core.kernels import compiled, which
from syncbn.reference import message as twin
from syncbn.reference.message import DIGEST_WORDS, ROOM, WORDS
from syncbn.typing import Float64Array

_kind: Any = twin if which == "reference" else compiled("message")
FirstMessage = _kind.FirstMessage
PlannedMessage = _kind.PlannedMessage

NBYTES = 8 * WORDS
"""Of a first message."""

NOTHING: Float64Array = np.empty(0)
"""The maxima of a call that has none."""

__all__ = ["DIGEST_WORDS", "NBYTES", "NOTHING", "ROOM", "FirstMessage", "PlannedMessage"]
