"""Finished pieces of work, kept in files, so that an interrupted run continues where it was."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from syncbn._core.threads import thread_limit, usable_cores
from syncbn.experiments.claims.claim import Claim, Key, Result
from syncbn.experiments.claims.setup import Setup
from syncbn.experiments.claims.source import source_hash
from syncbn.experiments.machine import cpu_model
from syncbn.experiments.report import dumps
from syncbn.files import write_atomically


class Store:
    """A directory with one JSON file for each finished piece.

    The name of a file is a hash of all that determines the numbers: the claim, its settings, the key of the piece, the
    data, the version of syncbn, the code that measures (`source_hash`) and, for a collective piece, the number of
    ranks. So a piece of another setup, or of an older rule of measurement, is never taken for one of this.

    Parameters
    ----------
    directory : Path
        Directory that is made with the first piece.
    setup : Setup
    identity : dict
        What else determines the numbers: the data and the version, as JSON values.
    """

    def __init__(self, directory: Path, setup: Setup, identity: dict[str, Any]) -> None:
        self.directory = directory
        self.setup = setup
        self.identity = identity

    def get(self, claim: Claim[Any], key: Key) -> Result | None:
        """Return the kept result of a piece; None if there is none, or its file is damaged."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(self._path(claim, key).read_text(encoding="utf-8"))
            if found["key"] == key and isinstance(found["numbers"], dict):
                return Result(key, found["numbers"], float(found["seconds"]))
        return None

    def put(self, claim: Claim[Any], result: Result) -> None:
        """Keep a result. If its file cannot be written, the run continues without it."""
        path = self._path(claim, result.key)
        content = dumps({"claim": claim.name, "key": result.key, "numbers": result.numbers, "seconds": result.seconds})
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content.encode())

    def _path(self, claim: Claim[Any], key: Key) -> Path:
        known = {
            **self.identity,
            "claim": claim.name,
            "code": source_hash(claim),
            "settings": asdict(claim.settings(self.setup)),
            "ranks": self.setup.ranks if claim.collective else None,
            "key": key,
        }
        if claim.timed:
            known["machine"] = [cpu_model(), usable_cores(), thread_limit()]
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
        return self.directory / claim.name / f"{digest[:24]}.json"
