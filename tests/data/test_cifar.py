"""CIFAR-10's own binary and Python formats, from files made here; a pickle is never executed."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbn.data import DataError, load
from syncbn.data.cifar import TEST, TRAIN, _read_binary, _read_python
from syncbn.data.pickled import read_pickle

NAMES = ("airplane", "automobile", "bird")
COUNTS = {**dict.fromkeys(TRAIN, 2), TEST: 3}


def images(count, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), rng.integers(0, 3, count).astype(np.uint8)


def as_binary(x, y):
    return np.hstack([y[:, None], x.reshape(len(x), -1)]).tobytes()


def string2(text):
    """Return the opcode of a string of Python 2."""
    return b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + struct.pack("<i", len(text)) + text


def as_python2(x, y):
    """Return a dictionary as Python 2 pickles it, which is how CIFAR-10 is distributed."""
    dtype = b"cnumpy\ndtype\n" + string2(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + string2(b"|") + b"NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + string2(b"b") + b"\x87R"
    array += b"(K\x01K" + bytes([len(x)]) + b"M\x00\x0c\x86" + dtype + b"\x89" + string2(x.tobytes()) + b"tb"
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in y) + b"e"
    return b"\x80\x02}(" + string2(b"labels") + labels + string2(b"data") + array + b"u."


def as_python3(x, y, protocol=2):
    return pickle.dumps({b"data": x.reshape(len(x), -1), b"labels": y.tolist(), b"batch_label": b"one"}, protocol)


FORMATS = {"binary": (as_binary, ".bin"), "Python 2": (as_python2, ""), "Python 3": (as_python3, "")}


@pytest.fixture(scope="module")
def parts():
    return {stem: images(count, seed) for seed, (stem, count) in enumerate(COUNTS.items())}


@pytest.fixture(params=FORMATS)
def directory(request, tmp_path, parts):
    write, end = FORMATS[request.param]
    for stem, part in parts.items():
        (tmp_path / (stem + end)).write_bytes(write(*part))
    if end:
        (tmp_path / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    else:
        names = {b"num_cases_per_batch": 2, b"label_names": [name.encode() for name in NAMES]}
        (tmp_path / "batches.meta").write_bytes(pickle.dumps(names, 2))
    return tmp_path


def test_a_directory(directory, parts):
    data = load(directory)
    assert data.name == directory.name
    assert data.class_names == NAMES
    for part, stems in (("train", TRAIN), ("test", [TEST])):
        for name, at in (("x", 0), ("y", 1)):
            expected = np.concatenate([parts[stem][at] for stem in stems])
            np.testing.assert_array_equal(getattr(data, f"{name}_{part}"), expected, strict=True)


def test_without_names_of_classes(directory):
    for path in directory.glob("batches.meta*"):
        path.unlink()
    assert load(directory).class_names == ("0", "1", "2")


@pytest.mark.parametrize("stem", [*TRAIN, TEST])
def test_a_missing_file(directory, stem):
    (path,) = (directory / (stem + end) for end in (".bin", "") if (directory / (stem + end)).exists())
    path.unlink()
    with pytest.raises(
        DataError, match=rf"{path.name} is missing; a directory of data has .*data_batch_1 to data_batch_5"
    ):
        load(directory)


def test_the_binary_format_is_preferred(tmp_path, parts):
    for stem, part in parts.items():
        (tmp_path / f"{stem}.bin").write_bytes(as_binary(*part))
        (tmp_path / stem).write_bytes(b"not read")
    assert len(load(tmp_path).x_test) == 3


@pytest.mark.parametrize("length", [0, 1, 3072, 3074, 2 * 3073 - 1])
def test_a_binary_file_of_another_size(length):
    with pytest.raises(DataError, match=f"{length} bytes are not a multiple of 3073"):
        _read_binary(bytes(length))


class Call:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self.arguments = function, arguments

    def __reduce__(self):
        return self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, shutil.rmtree, getattr, np.load, np.zeros])
def test_no_pickle_is_executed(tmp_path, function, protocol):
    victim = tmp_path / "victim"
    victim.mkdir()
    argument = {os.system: f"rm -r {victim}", eval: f"__import__('os').rmdir({str(victim)!r})"}.get(
        function, str(victim)
    )
    content = pickle.dumps({b"data": Call(function, argument), b"labels": []}, protocol)
    with pytest.raises(DataError, match=r"it names \S+, which a file of arrays does not need, so it was not read"):
        _read_python(content)
    assert victim.is_dir()


def test_a_pickle_cannot_change_the_reader():
    """A BUILD sets attributes of what a name stands for, but that is new for each file."""
    read_pickle(b"\x80\x02cnumpy\ndtype\n(N}X\x0c\x00\x00\x00__defaults__K\x01\x85stb.")
    assert _read_python(as_python2(*images(2, 0)))[0].shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00.",  # bytes of an enormous length
        b"\x80\x02X\xff\xff\xff\x7f.",
        b"\x80\x05\x96" + (1 << 28).to_bytes(8, "little") + b".",  # a bytearray
    ],
)
def test_lengths_in_the_file_are_not_allocated(content):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="not a pickle, or a damaged one"):
            read_pickle(content)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}N" + b"\x85" * 100_000 + b"Ns.",  # a key of nested tuples, whose hash is computed by recursion
        b"\x80\x02}(N" + b"2\x86" * 60 + b"Nu.",  # a key of 2^60 items
        b"((tNd.",
    ],
)
def test_keys_are_text(content):
    with pytest.raises(DataError, match="a key of a dictionary is of type tuple, expected text"):
        read_pickle(content)


@pytest.mark.parametrize("content", [b"\x80\x02\x8f.", b"\x80\x02}\x81.", b"\x80\x02\x82\x01."])
def test_other_instructions_are_refused(content):
    with pytest.raises(DataError, match="not a pickle, or a damaged one"):
        read_pickle(content)


def test_the_memo_takes_no_more_memory_than_its_entries():
    tracemalloc.start()
    try:
        assert read_pickle(b"\x80\x02Nr\x00\x00\x00\x01.") is None  # entry 16,777,216
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([1, 2], "a pickle of type list, expected a dictionary"),
        ({b"data": np.zeros((1, 3072), np.uint8)}, "has no entry 'labels'"),
        ({b"data": [1], b"labels": [1]}, "data is of type list, expected an array"),
        ({b"data": np.zeros((1, 3072)), b"labels": [1]}, "not one of uint8 with 2 axes"),
        ({b"data": np.zeros((1, 3072), np.int8), b"labels": [1]}, "not one of uint8 with 2 axes"),
        ({b"data": np.zeros((1, 3, 1024), np.uint8), b"labels": [1]}, "not one of uint8 with 2 axes"),
        ({b"data": np.zeros((3, 3072), np.uint8, order="F"), b"labels": [1] * 3}, "in C order"),
        ({b"data": np.zeros((1, 784), np.uint8), b"labels": [1]}, "images have 784 values, expected 3072"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [256]}, "labels must be a list of integers from 0 to 255"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [1.0]}, "labels must be a list of integers"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": 1}, "labels must be a list of integers"),
    ],
)
def test_a_dictionary_of_another_kind(entries, problem):
    with pytest.raises(DataError, match=problem):
        _read_python(pickle.dumps(entries, 2))


@given(data=st.data(), write=st.sampled_from([as_python2, as_python3]))
def test_a_damaged_pickle_gives_images_or_the_documented_error(data, write):
    content = bytearray(write(*images(1, 0)))
    position = data.draw(st.integers(0, 200) | st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    del content[data.draw(st.integers(0, len(content)) | st.just(len(content))) :]
    try:
        x, y = _read_python(bytes(content))
    except DataError:
        return
    assert x.shape[1:] == (3, 32, 32)
    assert x.dtype == y.dtype == np.uint8


def test_labels_and_images_of_different_numbers(directory, parts):
    if not (directory / TEST).exists():
        return
    x, y = parts[TEST]
    (directory / TEST).write_bytes(as_python3(x, y[:2]))
    with pytest.raises(DataError, match="test_batch: 3 images and 2 labels"):
        load(directory)
