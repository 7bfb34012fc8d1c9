"""Damaged and malicious files raise the documented error with their name and allocate little memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_arrays import arrays, shapes

from syncbn import BatchNorm, SerialComm
from syncbn.data import DataError, load, packaged, read_idx
from syncbn.nn import Adam, Dense, Sequential
from syncbn.train import CheckpointError, Trainer, checkpoint

EXAMPLES = 20 * settings.default.max_examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@contextmanager
def little_memory(limit: float = 5e6) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw bytes derived from ``content`` by cutting, flipping, moving, overwriting, adding or removing bytes."""
    for _ in range(draw(st.integers(1, 3))):
        size = len(content)
        a, b = sorted(draw(st.tuples(st.integers(0, size), st.integers(0, size))))
        some = draw(st.binary(max_size=8) | st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"]))
        content = draw(
            st.sampled_from(
                [
                    content[:a],
                    content[b:],
                    content[:a] + content[b:],
                    content[:a] + content[b:] + content[a:b],
                    content[:a] + some + content[a + len(some) :],
                    some + content,
                    content + some,
                    content + content,
                    b"",
                ]
            )
        )
        if content and draw(st.booleans()):
            flipped = bytearray(content)
            flipped[a % len(content)] ^= 1 << b % 8
            content = bytes(flipped)
    return content


def trainer(seed: int) -> Trainer:
    rng = np.random.default_rng(seed)
    model = Sequential(Dense(3, 4, rng=rng), BatchNorm(4), Dense(4, 2, rng=rng))
    return Trainer(model, Adam(model.parameters()), SerialComm(), batch_per_rank=5)


def state(trainer: Trainer) -> dict[str, object]:
    arrays = {**trainer.model.state_dict(), **trainer.optimizer.state_dict()}
    values = {name: array.tobytes() for name, array in arrays.items()}
    return {**values, "position": trainer.position, "history": trainer.history}


@pytest.fixture(scope="module")
def stored(folder) -> bytes:
    """Content of a checkpoint file."""
    path = folder / "good.npz"
    rng = np.random.default_rng(0)
    trainer(0).fit(rng.standard_normal((10, 3)).astype(np.float32), np.arange(10) % 2, 2, checkpoint=path)
    return path.read_bytes()


def resume(path: Path, content: bytes) -> bool:
    """Resume from a file with this content; after an error the trainer must be unchanged."""
    path.write_bytes(content)
    other = trainer(1)
    before = state(other)
    try:
        return other.resume(path)
    except CheckpointError as error:
        text = str(error)
    assert text.startswith(f"{path}: ")
    assert state(other) == before
    return False


@settings(max_examples=EXAMPLES)
@given(st.data())
def test_a_damaged_checkpoint_is_never_loaded(folder, stored, data):
    content = data.draw(damaged(stored))
    assert resume(folder / "damaged.npz", content) == (content == stored)


def sealed(body: bytes) -> bytes:
    """Return a file with this body and its correct checksum."""
    return body + checkpoint.LABEL + hashlib.sha256(body).hexdigest().encode()


@settings(max_examples=EXAMPLES)
@given(st.data())
def test_a_damaged_checkpoint_with_a_correct_checksum(folder, stored, data):
    body = stored[: -checkpoint.TRAILER_BYTES]
    content = sealed(data.draw(damaged(body)))
    with little_memory():
        resume(folder / "sealed.npz", content)


@settings(max_examples=EXAMPLES // 4)
@given(st.data())
def test_other_arrays_or_metadata_with_a_correct_checksum(folder, stored, data):
    contents = checkpoint.decode(stored)
    meta = json.loads(contents["meta"].tobytes())
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(contents)))
        if name == "meta" or data.draw(st.booleans()):
            at = data.draw(st.sampled_from([meta, *(value for value in meta.values() if isinstance(value, dict))]))
            value = st.none() | st.integers(-2, 3) | st.text(max_size=2) | st.just([[1]]) | st.just({"a": 1})
            at[data.draw(st.sampled_from(sorted(at)))] = data.draw(value)
        else:
            shape = contents[name].shape
            contents[name] = data.draw((arrays(shape) | shapes.flatmap(arrays)).filter(lambda a: not a.dtype.hasobject))
    contents["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    resume(folder / "other.npz", checkpoint.encode(contents))


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
        opened.comment = bytes(checkpoint.TRAILER_BYTES)
    return sealed(file.getvalue()[: -checkpoint.TRAILER_BYTES])


def npy(dtype: str, shape: tuple[int, ...], content: bytes = b"12345678") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def overlapping(members: int, size: int) -> bytes:
    """Return an archive whose members, arrays of bytes, contain the local headers and contents of the following ones.

    The members are valid and have different names and places, so that zipfile reads each of them.
    """
    tail, places = bytes(size), []
    for number in reversed(range(members)):
        name = f"model.{number:04}.npy".encode()
        content = npy("|u1", (len(tail),), tail)
        crc = zlib.crc32(content)
        tail = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, crc, len(content), len(content), len(name), 0)
        tail += name + content
        places.append((name, crc, len(content), len(tail)))
    directory = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, crc, n, n, len(name), 0, 0, 0, 0, 0, len(tail) - at)
        + name
        for name, crc, n, at in reversed(places)
    )
    end = struct.pack(
        "<4s4H2IH", b"PK\5\6", 0, 0, members, members, len(directory), len(tail), checkpoint.TRAILER_BYTES
    )
    return sealed(tail + directory + end)


def test_the_overlapping_archive_could_be_read(monkeypatch):
    monkeypatch.setattr(checkpoint, "_check_members", lambda *_: None)
    arrays = checkpoint.decode(overlapping(3, 100))
    assert [array.size for array in arrays.values()] == sorted((array.size for array in arrays.values()), reverse=True)
    assert arrays["model.0002"].tobytes() == bytes(100)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (archive({"meta.npy": npy("<f8", (10**12,))}), "buffer is too small"),
        (archive({"meta.npy": npy("<f8", (10**9, 10**9))}), "too big|too small"),
        (archive({"meta.npy": npy("|O", (1,))}), "is of objects"),
        (archive({"meta.npy": npy("|u1", (1 << 28,), bytes(1 << 28))}, zipfile.ZIP_DEFLATED), "is compressed"),
        (archive({"meta.npy": npy("|u1", (8,), b"[" * 8)}), "not the contents"),
        (archive({"meta.npy": npy("|u1", (10**5,), b"[" * 10**5)}), "RecursionError"),
        (archive({"meta.npy": b"\x93NUMPY\x09\x00" + bytes(20)}), "is of version"),
        (archive({}), "KeyError|not a checkpoint"),
        (overlapping(100, 1 << 20), "members of 1[0-9]{8} bytes overlap"),
    ],
    ids=range(9),
)
def test_malicious_contents(folder, content, problem):
    path = folder / "malicious.npz"
    with little_memory(len(content) + 5e6):
        assert not resume(path, content)
    with pytest.raises(CheckpointError, match=problem):
        trainer(1).resume(path)


FILES = {
    "train-images-idx3-ubyte": (6, 4, 5),
    "train-labels-idx1-ubyte": (6,),
    "t10k-images-idx3-ubyte": (3, 4, 5),
    "t10k-labels-idx1-ubyte": (3,),
}


def idx(shape: tuple[int, ...]) -> bytes:
    values = np.random.default_rng(len(shape)).integers(0, 3, shape, dtype=np.uint8)
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + values.tobytes()


packings = st.sampled_from([bytes, gzip.compress])


@settings(max_examples=EXAMPLES)
@given(st.data(), packings, packings)
def test_damaged_idx_files(folder, data, pack_before: Callable[[bytes], bytes], pack_after: Callable[[bytes], bytes]):
    content = pack_after(data.draw(damaged(pack_before(idx((6, 4, 5))))))
    path = folder / "some-idx3-ubyte"
    path.write_bytes(content)
    with little_memory():
        try:
            array = read_idx(path, 3)
        except DataError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            return
    plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    assert plain == struct.pack(">BBBB3I", 0, 0, 8, 3, *array.shape) + array.tobytes()


@settings(max_examples=EXAMPLES // 4)
@given(st.data())
def test_a_directory_with_damaged_or_exchanged_files(folder, data):
    contents = dict(zip(FILES, data.draw(st.permutations([idx(shape) for shape in FILES.values()])), strict=True))
    for name in data.draw(st.sets(st.sampled_from(sorted(FILES)), max_size=1)):
        contents[name] = data.draw(damaged(contents[name]))
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    try:
        loaded = load(folder)
    except DataError as error:
        assert str(folder) in str(error)  # noqa: PT017
        return
    assert len(loaded.x_train) == len(loaded.y_train)
    assert len(loaded.x_test) == len(loaded.y_test)


@settings(max_examples=EXAMPLES // 40)
@given(st.data())
def test_the_packaged_file_is_loaded_completely_or_not_at_all(folder, data):
    path = folder / "packaged.npz"
    content = packaged.PACKAGED.read_bytes()
    path.write_bytes(data.draw(damaged(content)))
    if path.read_bytes() != content:
        with pytest.raises(DataError, match=r"packaged\.npz: damaged"):
            packaged.read_packaged(path)
