from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from syncbn.data import DataError, Dataset, load, packaged, sources

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def as_idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def arrays(rng):
    return {
        "x_train": rng.integers(0, 256, (6, 4, 5), dtype=np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2], np.uint8),
        "x_test": rng.integers(0, 256, (3, 4, 5), dtype=np.uint8),
        "y_test": np.array([2, 1, 0], np.uint8),
    }


@pytest.fixture
def directory(tmp_path, arrays):
    """Directory with two gzipped files and one whose name has a dot."""
    names = (f"{STEMS[0]}.gz", STEMS[1], f"{STEMS[2]}.gz", STEMS[3].replace("-idx", ".idx"))
    for name, array in zip(names, arrays.values(), strict=True):
        content = as_idx(array)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return tmp_path


def test_the_packaged_images():
    data = load()
    assert data.name == "fashion-mnist-10k"
    assert data.x_train.shape == (10_000, 28, 28)
    assert data.x_test.shape == (2_000, 28, 28)
    assert data.x_train.dtype == data.y_train.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(data.y_train), [1000] * 10)
    np.testing.assert_array_equal(np.bincount(data.y_test), [200] * 10)
    assert data.class_names == sources.CLASS_NAMES
    # Sandals cover the smallest part of the image, which shows that labels and images belong together.
    brightness = [data.x_train[data.y_train == k].mean() for k in range(10)]
    assert int(np.argmin(brightness)) == data.class_names.index("Sandal")
    with pytest.raises(ValueError, match="read-only"):
        data.x_train[0] = 0


def test_the_checksum_is_that_of_the_licence_text():
    text = packaged.PACKAGED.with_suffix(".txt").read_text()
    assert f"sha256 {packaged.SHA256}" in text
    assert "MIT" in text


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "other"])
def test_a_damaged_packaged_file(tmp_path, damage):
    path = tmp_path / "copy.npz"
    content = packaged.PACKAGED.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[:-1])
    elif damage == "flipped":
        path.write_bytes(content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])
    elif damage == "other":
        np.savez(path, x_train=np.zeros(3))
    with pytest.raises(DataError, match=r"copy\.npz: .*reinstall syncbn"):
        packaged.read_packaged(path)
    path.write_bytes(content)
    assert len(packaged.read_packaged(path).y_test) == 2_000


def test_a_directory(directory, arrays):
    data = load(directory)
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(data, name), array, strict=True)
    assert data.name == directory.name
    assert data.source == str(directory)
    assert data.class_names == ("0", "1", "2")
    assert load(str(directory)).class_names == data.class_names


@pytest.mark.parametrize("beside", [True, False])
def test_mnist_as_kaggle_packs_it(tmp_path, arrays, beside):
    """Folders have the names of files: the file is in the folder, and in most archives beside it too."""
    for stem, array in zip(STEMS, arrays.values(), strict=True):
        (tmp_path / stem).mkdir()
        (tmp_path / stem / stem).write_bytes(as_idx(array))
        if beside:
            (tmp_path / stem.replace("-idx", ".idx")).write_bytes(as_idx(array))
            (tmp_path / stem / stem).write_bytes(b"the file beside the folder is read")
    data = load(tmp_path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(data, name), array, strict=True)


def test_a_folder_without_the_file(directory):
    path = directory / STEMS[1]
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=rf"{STEMS[1]}\.gz is missing"):
        load(directory)


def test_terminal_escapes_in_names_are_shown_as_text(tmp_path):
    directory = tmp_path / "\x1b[31mred"
    directory.mkdir()
    with pytest.raises(DataError, match=r"\\x1b\[31mred/train.* is missing"):
        load(directory)


@pytest.mark.parametrize("position", range(4))
def test_a_missing_or_damaged_file(directory, position):
    path = next(directory.glob(STEMS[position].replace("-idx", "?idx") + "*"))
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match=rf"{STEMS[position]}\.gz .*idx files"):
        load(directory)
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"{path.name}: .*; .*four idx files"):
        load(directory)


def test_debians_package(directory, monkeypatch):
    monkeypatch.setattr(sources, "DEBIAN_DIRECTORY", directory)
    data = load("fashion-mnist")
    assert data.name == "fashion-mnist"
    assert data.class_names[9] == "Ankle boot"
    monkeypatch.setattr(sources, "DEBIAN_DIRECTORY", directory / "absent")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz .*apt install dataset-fashion-mnist"):
        load("fashion-mnist")


@pytest.mark.skipif(not sources.DEBIAN_DIRECTORY.exists(), reason="apt install dataset-fashion-mnist")
def test_the_packaged_images_are_a_subset():
    whole, part = load("fashion-mnist"), load()
    assert whole.x_train.shape == (60_000, 28, 28)
    rows = np.load(packaged.PACKAGED)["train_index"]
    np.testing.assert_array_equal(whole.x_train[rows], part.x_train)
    np.testing.assert_array_equal(whole.y_train[rows], part.y_train)


@pytest.mark.parametrize("is_dir", [Path.is_dir, os.path.isdir], ids=["this Python", "Python 3.14"])
def test_a_name_too_long_and_a_broken_link(directory, is_dir, monkeypatch):
    monkeypatch.setattr(Path, "is_dir", lambda path: is_dir(path))
    with pytest.raises(DataError, match="File name too long"):
        load("x" * 5000)
    (path,) = directory.glob(f"{STEMS[1]}*")
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(DataError, match=f"{STEMS[1]}: No such file"):
        load(directory)


def test_an_unknown_name():
    with pytest.raises(DataError, match=r"'cifar'.*'fashion-mnist-10k', 'fashion-mnist'"):
        load("cifar")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"y_train": np.zeros(5, np.uint8)}, "6 train images have 5 labels"),
        ({"y_test": np.array([0, 1, 3], np.uint8)}, "a test label is 3, expected 0 to 2"),
        ({"x_test": np.zeros((3, 5, 4), np.uint8)}, r"train images of \(4, 5\) pixels, test images of \(5, 4\)"),
        ({"x_test": np.zeros((0, 4, 5), np.uint8), "y_test": np.zeros(0, np.uint8)}, r"x_test .* is empty"),
        ({"x_train": np.zeros((6, 4, 5))}, "x_train is float64 with 3 axes, expected uint8 with 3 or 4"),
    ],
)
def test_inconsistent_arrays(arrays, changes, problem):
    with pytest.raises(DataError, match=f"invented from nowhere: {problem}"):
        Dataset("invented", "nowhere", **{**arrays, **changes}, class_names=("a", "b", "c"))


def test_the_first_samples(arrays):
    data = Dataset("invented", "nowhere", **arrays, class_names=("a", "b", "c"))
    part = data.first(4, 100)
    np.testing.assert_array_equal(part.x_train, arrays["x_train"][:4])
    np.testing.assert_array_equal(part.y_test, arrays["y_test"])
    assert len(data.first(test=1).y_train) == 6


def test_package_data_is_in_the_directory_of_the_build():
    assert sorted(path.suffix for path in Path(packaged.__file__).parent.glob("fashion*")) == [".npz", ".txt"]
