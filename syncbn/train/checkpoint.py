"""The checkpoint file: an .npz archive with a checksum, replaced in one instant.

The SHA-256 of all bytes before it is the archive's comment, at its very end. So every damage is found
before anything is parsed, and ``numpy.load`` still reads the file.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"PK\x03\x04"
LABEL = b"syncbn checkpoint sha256 "
TRAILER_BYTES = len(LABEL) + 64
DRAFT = ".partial"


class CheckpointError(ValueError):
    """A checkpoint can't be written, read or used here: which file, and what is wrong. Raised on all ranks."""


def encode(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the bytes of a checkpoint file; the same arrays give the same bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getbuffer())
        archive.comment = bytes(TRAILER_BYTES)
    body = file.getvalue()[:-TRAILER_BYTES]
    return body + _trailer(body)


def decode(stored: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a checkpoint file.

    Raises
    ------
    CheckpointError
        Some bytes are missing or other than `encode` wrote them.
    """
    if not stored.startswith(MAGIC[: len(stored)]):
        raise CheckpointError(f"not a checkpoint: it starts with {stored[:4]!r}")
    body, trailer = stored[:-TRAILER_BYTES], stored[-TRAILER_BYTES:]
    if not trailer.startswith(LABEL):
        raise CheckpointError(f"truncated, or not written by syncbn: no checksum at the end of {len(stored)} bytes")
    if trailer != _trailer(body):
        raise CheckpointError("damaged: its checksum does not fit")
    try:
        with zipfile.ZipFile(io.BytesIO(stored)) as archive:
            return {info.filename.removesuffix(".npy"): _array(archive, info) for info in archive.infolist()}
    except Exception as error:  # made by someone else, who can also make a checksum
        raise CheckpointError(f"not the contents of a checkpoint ({type(error).__name__}: {error})") from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """Return a member as an array on its own bytes, so that no header can ask for more memory than these."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed")
    content = archive.read(info)
    header = io.BytesIO(content)
    if (version := np.lib.format.read_magic(header)) != (1, 0):
        raise ValueError(f"{info.filename} is of version {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
    if dtype.hasobject:
        raise ValueError(f"{info.filename} is of objects")
    array: NDArray[Any] = np.ndarray(shape, dtype, content, header.tell(), order="F" if fortran else "C")
    return array


def _trailer(body: bytes) -> bytes:
    return LABEL + hashlib.sha256(body).hexdigest().encode()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is, whenever the process or the machine stops, the old one or the new one, whole.

    Every draft has a name of its own: a writer that lives longer than it should, such as that of a run which
    has been started again already, can't write into the draft of another. What killed writers left is removed.
    """
    for stale in path.parent.glob(f"{glob.escape(path.name)}.*{DRAFT}"):
        stale.unlink(missing_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}{DRAFT}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the new name too is on the disk
    finally:
        os.close(directory)
