from __future__ import annotations

import gzip
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbn.data import DataError, read_idx


def as_idx(array, kind=0x08):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.tobytes()


def images(rng_seed=0, shape=(2, 3, 4)):
    return np.random.default_rng(rng_seed).integers(0, 256, shape, dtype=np.uint8)


def read(path, content, ndim=3):
    path.write_bytes(content)
    return read_idx(path, ndim)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "some-idx3-ubyte"


@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    seed=st.integers(0, 100),
    pack=st.sampled_from([bytes, gzip.compress]),
)
def test_round_trip(path, shape, seed, pack):
    array = images(seed, shape)
    actual = read(path, pack(as_idx(array)), ndim=array.ndim)
    assert actual.dtype == np.uint8
    np.testing.assert_array_equal(actual, array, strict=True)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_truncated_after_any_number_of_bytes(path, pack):
    content = pack(as_idx(images()))
    assert read(path, content).shape == (2, 3, 4)
    for length in range(len(content)):
        with pytest.raises(DataError, match="some-idx3-ubyte: "):
            read(path, content[:length])


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_any_flipped_bit_gives_an_array_or_the_documented_error(path, pack):
    content = pack(as_idx(images()))
    errors = 0
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert read(path, damaged).ndim == 3
        except DataError:
            errors += 1
    assert errors >= 8 * 12


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not an idx file: it is empty"),
        (b"another format", "not an idx file"),
        (as_idx(images(), kind=0x0D), "of float32, expected uint8"),
        (as_idx(images()[0]), "2 axes, expected 3"),
        (as_idx(images())[:10], "truncated in the header"),
        (as_idx(images()) + b"\0", r"too long: shape \(2, 3, 4\) needs 24 values, the file has 25 or more"),
        (as_idx(images())[:-1], "truncated"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 0, 2**32 - 1, 2**32 - 1), r"impossible shape \(0, 4294967295"),
    ],
)
def test_errors_describe_the_problem(path, pack, content, problem):
    with pytest.raises(DataError, match=problem):
        read(path, pack(content))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(2**32 - 1, 28, 28), (2**32 - 1,) * 3, (60_000, 28, 28)])
def test_a_header_with_too_many_values_allocates_nothing(path, pack, shape):
    path.write_bytes(pack(struct.pack(">BBBB3I", 0, 0, 8, 3, *shape) + bytes(50_000)))
    tracemalloc.start()
    with pytest.raises(DataError, match="truncated"):
        read_idx(path, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6


def test_the_file_size_is_checked_before_values_are_read(path):
    with path.open("wb") as file:
        file.write(struct.pack(">BBBB3I", 0, 0, 8, 3, 10_000, 10_000, 10_000))
        file.truncate(1 << 28)
    tracemalloc.start()
    with pytest.raises(DataError, match="needs 1000000000000 values"):
        read_idx(path, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    path.unlink()
    assert peak < 5e6


def test_the_best_compression_of_gzip_is_accepted(path):
    content = gzip.compress(as_idx(np.zeros((100, 200, 500), np.uint8)))
    assert len(content) < 1e7 / 1000
    assert read(path, content).shape == (100, 200, 500)


def test_a_gzip_file_followed_by_other_bytes(path):
    with pytest.raises(DataError, match="damaged gzip file"):
        read(path, gzip.compress(as_idx(images())) + b"more")


def test_a_file_that_is_not_readable(tmp_path):
    with pytest.raises(DataError, match=r"absent: No such file"):
        read_idx(tmp_path / "absent", 3)
    with pytest.raises(DataError, match=f"{tmp_path.name}: Is a directory"):
        read_idx(tmp_path, 3)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DataError, match="fifo: not a regular file"):
        read_idx(tmp_path / "fifo", 3)
