"""Writing what must be whole or not there at all: beside its place first, and then over it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sync", "write_private"]


def write_private(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """Put a file in the place of ``path``, for its owner alone; it is on disk when this returns.

    Args:
        path: where; its folder exists.
        data: all of it.
        lasting: whether it has to survive a power cut.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            if lasting:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    if lasting:
        sync(path.parent)


def sync(path: Path) -> None:
    """See a file, or the names in a folder, onto the disk.

    Raises:
        OSError: that cannot be.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
