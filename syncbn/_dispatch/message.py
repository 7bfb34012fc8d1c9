"""The messages of collective calls: compiled, or their readable twins."""

from __future__ import annotations

from typing import Any

from syncbn._dispatch.kernels import compiled, which
from syncbn.reference import message as twin
from syncbn.reference.message import DIGEST_WORDS, ROOM, WORDS

_kind: Any = twin if which == "reference" else compiled("message")
FirstMessage = _kind.FirstMessage
PlannedMessage = _kind.PlannedMessage

NBYTES = 8 * WORDS
"""Of a first message."""

__all__ = ["DIGEST_WORDS", "NBYTES", "ROOM", "FirstMessage", "PlannedMessage"]
