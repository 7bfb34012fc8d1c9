"""The ranks that have entered the construction of a communicator, before they exchange the addresses of its slots.

The ranks of a group construct its communicators in the same order. So each process counts the constructions that it has
entered, by group, on its page. Processes that have met on an earlier communicator read these counts.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence

import numpy as np

from syncbn.comm.liveness.process_page import CONSTRUCTIONS, SLOTS, ProcessPage

GROUPS = (SLOTS - CONSTRUCTIONS) // 2


def group_key(members: Sequence[int]) -> int:
    """Return a positive integer that identifies the group of these processes."""
    digest = hashlib.blake2b(np.array(members, np.int64).tobytes(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 2) + 1


class Construction:
    """The count of one process for one group: a table of (key, count) with linear probing on its page.

    Parameters
    ----------
    page : ProcessPage
    key : int
        The key of the group.
    """

    def __init__(self, page: ProcessPage, key: int) -> None:
        self.page = page
        self._key = key

    @property
    def calls(self) -> int:
        """The number of constructions that the process has entered; a large number where it had no more memory."""
        word = self._word()
        return sys.maxsize if word is None else self.page.words[word + 1]

    @calls.setter
    def calls(self, calls: int) -> None:
        word = self._word()
        if word is not None:
            self.page.words[word + 1] = calls
            self.page.words[word] = self._key

    def _word(self) -> int | None:
        for probe in range(GROUPS):
            word = CONSTRUCTIONS + 2 * ((self._key + probe) % GROUPS)
            if self.page.words[word] in (0, self._key):
                return word
        return None
