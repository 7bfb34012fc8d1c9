from __future__ import annotations

import errno
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbn.train import CheckpointError, checkpoint
from syncbn.train.checkpoint import decode, encode, write_atomically

ARRAYS = {
    "meta": np.frombuffer(b'{"version": 1}', np.uint8),
    "model.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "model.1.num_batches_tracked": np.array(3),
    "optimizer.lr": np.array(0.1),
    "buffers": np.empty((0, 0), np.uint8),
}


def test_what_was_written_is_read():
    stored = encode(ARRAYS)
    for came in (decode(stored), dict(np.load(io.BytesIO(stored), allow_pickle=False))):
        assert list(came) == list(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(came[name], array, strict=True)
    assert encode(ARRAYS) == stored


def test_truncated_after_any_number_of_bytes():
    stored = encode(ARRAYS)
    for length in range(len(stored)):
        with pytest.raises(CheckpointError, match="truncated"):
            decode(stored[:length])


def test_any_flipped_bit_is_found():
    stored = encode(ARRAYS)
    for position in range(len(stored)):
        damaged = bytearray(stored)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(CheckpointError):
            decode(bytes(damaged))


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda more: encode(ARRAYS) + more + b"x"))
def test_anything_else_is_found(content):
    with pytest.raises(CheckpointError, match=r"not a checkpoint|truncated, or not written by syncbn|damaged"):
        decode(content)


def test_an_archive_from_elsewhere():
    file = io.BytesIO()
    np.savez(file, **ARRAYS)
    with pytest.raises(CheckpointError, match="not written by syncbn: no checksum at the end"):
        decode(file.getvalue())


def test_objects_are_not_written():
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        encode({"meta": np.array([{}])})


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path, monkeypatch, failing):
    path = tmp_path / "run.npz"
    write_atomically(path, b"old")

    def fail(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    if failing == "fsync":
        monkeypatch.setattr(checkpoint.os, "fsync", fail)
    elif failing == "replace":
        monkeypatch.setattr(checkpoint.Path, "replace", fail)
    content = "text, not bytes" if failing == "write" else b"new"
    with pytest.raises((OSError, TypeError)):
        write_atomically(path, content)
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_what_a_killed_writer_left_is_removed(tmp_path, monkeypatch):
    path, other = tmp_path / "run[1].npz", tmp_path / "run1.npz"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Path, "unlink", lambda *_args, **_options: None)  # the dead clean up nothing
        patch.setattr(checkpoint.Path, "replace", lambda *_args: {}["dead"])
        for each in (path, path, other):
            with pytest.raises(KeyError):
                write_atomically(each, b"left")
    assert len(list(tmp_path.iterdir())) == 3
    write_atomically(path, b"new")
    (left,) = (p.name for p in tmp_path.iterdir() if p != path)
    assert left.startswith("run1.npz.")


def test_two_writers_at_once_damage_nothing(tmp_path):
    """A run that was started again meets a rank 0 that is not quite dead: each file is of one or the other."""
    path, size, stop = tmp_path / "run.npz", 1 << 20, threading.Event()

    def write(content):
        while not stop.is_set():
            with suppress(FileNotFoundError):  # the other has removed the draft, and this one hears of it
                write_atomically(path, content * size)

    write_atomically(path, b"0" * size)
    seen = set()
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, content) for content in (b"a", b"b")]
        for _ in range(100):
            stored = path.read_bytes()
            seen.add((len(stored), *set(stored)))
        stop.set()
    for writer in writers:
        writer.result()
    assert seen <= {(size, letter) for letter in b"0ab"}
    assert len(seen) > 1
