"""Ranks die at random moments, again and again: the training still ends with the bits of one that was left alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import syncbn
from syncbn.cli.mpiexec import mpiexec_command
from syncbn.train.checkpoint import decode, encode
from syncbn.train.records import Position

RECORD = asdict(Position(samples=1).record(0.05, None, None))

SCRIPT = Path(__file__).with_name("interrupted_training.py")


class Run:
    """One start of the training, in processes of its own."""

    def __init__(self, directory: Path, checkpoint: str, ranks: int, seed: int = 0) -> None:
        self.path = directory / checkpoint
        for old in directory.glob("pid-*"):
            old.unlink()
        launcher, environment = mpiexec_command(ranks) if ranks else ([], {})
        command = [*launcher, sys.executable, *(["-m", "mpi4py"] if ranks else []), str(SCRIPT)]
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, str(directory), checkpoint, str(ranks), str(seed)],
                env={**os.environ, **environment, "PYTHONPATH": str(Path(syncbn.__file__).parents[1])},
                stdout=log,
                stderr=log,
            )
        self.pid_files = [directory / f"pid-{rank}" for rank in range(max(ranks, 1))]

    def alive(self) -> bool:
        """Give the core away for a moment, and say whether the training goes on; fail where it has failed."""
        time.sleep(1e-4)
        code = self.process.poll()
        assert not code, f"exit code {code}: {self.log.read_text()}"
        return code is None

    def finish(self) -> None:
        self.process.wait(60)
        assert not self.alive()

    def wait_for_ranks(self) -> list[int]:
        while not all(file.exists() for file in self.pid_files):
            assert self.alive()
        return [int(file.read_text()) for file in self.pid_files]

    def watch(self, changes: int) -> None:
        """Wait until the checkpoint has been replaced so often; every version of it must be whole."""
        seen = None
        while changes >= 0 and self.alive():
            with suppress(FileNotFoundError):
                if (now := self.path.stat().st_ino) != seen:
                    decode(self.path.read_bytes())
                    seen, changes = now, changes - 1

    def kill(self, rng: np.random.Generator) -> bool:
        """Kill a random rank at a random moment; return whether that was while a checkpoint was written."""
        pids = self.wait_for_ranks()
        segments = {name for pid in pids for name in re.findall(r"/dev/shm/\S+", Path(f"/proc/{pid}/maps").read_text())}
        moment = rng.choice(["before the first step", "between writes", "in a write"], p=[0.2, 0.3, 0.5])
        if moment == "before the first step":
            time.sleep(rng.uniform(0, 0.1))
        else:
            self.watch(int(rng.integers(1, 8)))
            while moment == "in a write" and not drafts(self.path) and self.alive():
                pass
            time.sleep(rng.uniform(0, 2e-3 if moment == "between writes" else 2e-4))
        assert self.alive(), "the training was over before it could be killed"
        os.kill(pids[rng.integers(len(pids))], signal.SIGKILL)
        assert self.process.wait(20)
        for name in segments:  # MPI's shared memory, which a killed rank leaves behind
            Path(name).unlink(missing_ok=True)
        return bool(drafts(self.path))


def drafts(path: Path) -> list[Path]:
    return [other for other in path.parent.iterdir() if other.name.startswith(path.name) and other != path]


def contents(path: Path) -> dict[str, object]:
    """Return all that an interruption must not change: bytes of arrays, and the rest as it is, without seconds."""
    arrays = decode(path.read_bytes())
    meta = json.loads(arrays.pop("meta").tobytes())
    for record in (meta["position"], *meta["history"]):
        del record["seconds"]
    return {**{name: array.tobytes() for name, array in arrays.items()}, "meta": meta}


def tampered(stored: bytes, **changes: int) -> bytes:
    """Return the checkpoint with another position, or another seed, and a right checksum."""
    arrays = decode(stored)
    meta = json.loads(arrays["meta"].tobytes())
    if "seed" in changes:
        meta["config"]["seed"] = str(changes["seed"])
    else:
        position = meta["position"] | changes
        meta["position"] = position | {"samples": 8 * position["step"]}
        meta["history"] = [RECORD | {"epoch": epoch + 1} for epoch in range(position["epoch"])]
    return encode({**arrays, "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)})


@pytest.mark.timeout(150)  # 25 starts of a training, of about one second each
@pytest.mark.parametrize(("ranks", "kills"), [(0, 5), (2, 20)])
def test_a_rank_that_dies_at_any_moment(tmp_path, rng, ranks, kills):
    Run(tmp_path, "whole.npz", ranks).finish()
    whole = contents(tmp_path / "whole.npz")
    assert len(whole["meta"]["history"]) == 8
    assert bool(ranks) == (len(whole["buffers"]) > 0)  # BatchNorm's differ between ranks

    path = tmp_path / "broken.npz"
    in_writes = sum(Run(tmp_path, path.name, ranks).kill(rng) for _ in range(kills))
    assert in_writes >= kills // 20
    middle = path.read_bytes()
    Run(tmp_path, path.name, ranks).finish()
    assert contents(path) == whole
    assert not drafts(path)

    # The comparison sees a training that went on from elsewhere or with samples in another order.
    position = json.loads(decode(middle)["meta"].tobytes())["position"]
    epoch, step = position["epoch"], position["step"]
    for changes in ({"epoch": epoch + 1}, {"step": (step + 1) % 30}, {"seed": 1}):
        path.write_bytes(tampered(middle, **changes))
        Run(tmp_path, path.name, ranks, seed=changes.get("seed", 0)).finish()
        wrong = contents(path)
        assert wrong["meta"]["position"] == whole["meta"]["position"]
        assert wrong["model.0.weight"] != whole["model.0.weight"]
