"""The files of blobs, as whoever looks after a database takes them: read whole, copied whole."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fog_compute.reading import open_state
from fog_compute.units import MIB
from fog_compute.writing import sync

__all__ = ["BlobFault", "copy_blob", "look_at_blob"]

PIECE_BYTES: Final = MIB

_NAME: Final = re.compile(r"[0-9a-f]{64}")


class BlobFault(Exception):
    """A blob is not there, or is not what its name says; the text says which."""


def blob_path(folder: Path, sha256: str) -> Path:
    """Where a blob is.

    Raises:
        BlobFault: this is no name of one.
    """
    if _NAME.fullmatch(sha256) is None:
        raise BlobFault("its name is no SHA-256")
    return folder / sha256[:2] / sha256[2:]


def look_at_blob(folder: Path, sha256: str) -> int:
    """Read all of a blob; return its size in bytes.

    Raises:
        BlobFault: it is not there, cannot be read, or is damaged.
    """
    return sum(len(piece) for piece in _whole(blob_path(folder, sha256), sha256))


def copy_blob(source: Path, target: Path, sha256: str) -> int:
    """Copy a blob from one folder to another, durably, unless it is there; return its size.

    Raises:
        BlobFault: it is not there, cannot be read, or is damaged; nothing was copied.
        OSError: the copy cannot be written.
    """
    path = blob_path(target, sha256)
    try:
        return look_at_blob(target, sha256)
    except BlobFault:
        for folder in (target, path.parent):
            folder.mkdir(exist_ok=True, mode=0o700)
    fresh = path.with_name(f".new-{os.getpid()}-{path.name[:16]}")
    size = 0
    try:
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600, exist_ok=False)
        with fresh.open("wb") as file:
            for piece in _whole(blob_path(source, sha256), sha256):
                file.write(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync(path.parent)
    return size


def _whole(path: Path, sha256: str) -> Iterator[bytes]:
    """The pieces of a file; the last one is followed by an error if they are not what they were."""
    hashed = hashlib.sha256()
    try:
        with open_state(path) as descriptor:
            while piece := os.read(descriptor, PIECE_BYTES):
                hashed.update(piece)
                yield piece
    except FileNotFoundError:
        raise BlobFault("it is not there") from None
    except OSError as error:
        raise BlobFault(f"it cannot be read: {error.strerror}") from error
    if hashed.hexdigest() != sha256:
        raise BlobFault("its bytes are not what its name says")
