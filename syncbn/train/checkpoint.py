"""The checkpoint file: an .npz archive with a checksum.

The comment of the archive, at its end, is the SHA-256 of all bytes before it. So damage is detected before anything is
parsed, and ``numpy.load`` can read the file.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syncbn.files import printable
from syncbn.pitfalls import see

MAGIC = b"PK\x03\x04"
LABEL = b"syncbn checkpoint sha256 "
TRAILER_BYTES = len(LABEL) + 64


class CheckpointError(ValueError):
    """A checkpoint cannot be written, read or used; the message has the file and the reason. Raised on all ranks.

    See Also
    --------
    syncbn.train.Trainer : Its ``save`` and ``resume``.

    Examples
    --------
    >>> from syncbn import SerialComm, nn
    >>> from syncbn.train import CheckpointError, Trainer
    >>> model = nn.Dense(4, 2)
    >>> trainer = Trainer(model, nn.SGD(model.parameters(), lr=0.1), SerialComm())
    >>> try:
    ...     trainer.resume("missing.npz")
    ... except CheckpointError as error:
    ...     print(error)
    missing.npz: there is no such checkpoint (docs/sharp-bits.md#checkpoints)
    """

    def __init__(self, text: str) -> None:
        entry = see("checkpoints")
        super().__init__(printable(text.replace(entry, "")) + entry)  # the text may be that of another CheckpointError


def encode(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the bytes of a checkpoint file. Equal arrays give equal bytes."""
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
        Bytes are missing or differ from those that `encode` returned.
    """
    if not stored.startswith(MAGIC[: len(stored)]):
        raise CheckpointError(f"not a checkpoint: it starts with {stored[:4]!r}")
    body, trailer = stored[:-TRAILER_BYTES], stored[-TRAILER_BYTES:]
    if not trailer.startswith(LABEL):
        if _is_other_npz(stored):
            raise CheckpointError(
                "an .npz file of arrays, not a checkpoint of a Trainer: if it holds the state_dict of a model, call "
                "model.load_state_dict(dict(numpy.load(path)))"
            )
        raise CheckpointError(f"truncated, or not written by syncbn: no checksum at the end of {len(stored)} bytes")
    if trailer != _trailer(body):
        raise CheckpointError("damaged: its checksum does not fit")
    try:
        with zipfile.ZipFile(io.BytesIO(stored)) as archive:
            members = archive.infolist()
            _check_members(members, len(stored))
            return {info.filename.removesuffix(".npy"): _array(archive, info) for info in members}
    except Exception as error:  # a forged file may have a valid checksum
        raise CheckpointError(f"not the contents of a checkpoint ({type(error).__name__}: {error})") from error


def _is_other_npz(stored: bytes) -> bool:
    """Return whether these are the bytes of an .npz file whose names are not those of a checkpoint."""
    try:
        with zipfile.ZipFile(io.BytesIO(stored)) as archive:
            names = archive.namelist()
    except Exception:  # not an archive, or a forged one
        return False
    return bool(names) and all(name.endswith(".npy") for name in names) and "meta.npy" not in names


def _check_members(members: Sequence[zipfile.ZipInfo], size: int) -> None:
    """Raise ValueError if reading all members could take more memory than the file has bytes, as in a forged file."""
    for info in members:
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{info.filename} is compressed")
    if (total := sum(info.file_size for info in members)) > size:
        raise ValueError(f"members of {total} bytes overlap in a file of {size} bytes")
    if len({info.filename for info in members}) < len(members):
        raise ValueError("two members have the same name")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """Return a member as an array on its own bytes, so a forged header cannot make it allocate more memory."""
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
