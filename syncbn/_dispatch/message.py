"""The first message of every collective call: compiled, or its readable twin."""

from __future__ import annotations

from typing import Any

from syncbn._dispatch.kernels import compiled, which
from syncbn.reference import message as twin
from syncbn.reference.message import DIGEST_WORDS, ROOM, WORDS

FirstMessage: Any = twin.FirstMessage if which == "reference" else compiled("message").FirstMessage

NBYTES = 8 * WORDS
"""Of a message."""

__all__ = ["DIGEST_WORDS", "NBYTES", "ROOM", "FirstMessage"]
