from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbn.train import CheckpointError
from syncbn.train.checkpoint import decode, encode

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


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_state_dict_in_a_file(save):
    file = io.BytesIO()
    save(file, **{"0.weight": ARRAYS["model.0.weight"]})
    with pytest.raises(CheckpointError, match=r"call model\.load_state_dict\(dict\(numpy\.load\(path\)\)\)"):
        decode(file.getvalue())
    with pytest.raises(CheckpointError, match="truncated"):
        decode(file.getvalue()[:-1])


def test_objects_are_not_written():
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        encode({"meta": np.array([{}])})
