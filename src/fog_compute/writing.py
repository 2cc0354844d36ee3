"""Writing what must be whole or not there at all: beside its place first, and then over it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

__all__ = ["destroy", "sync", "write_private"]


def write_private(path: Path, data: bytes, *, lasting: bool = True, mode: int = 0o600) -> None:
    """Put a file in the place of ``path``, for its owner alone; it is on disk when this returns.

    Args:
        path: where; its folder exists.
        data: all of it.
        lasting: whether it has to survive a power cut.
        mode: who may read it, where that is not its owner alone.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.fchmod(descriptor, mode)
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


def destroy(path: Path, failure: Callable[[str, OSError], Exception]) -> bool:
    """Overwrite a file and delete it; whether there was one.

    Args:
        path: which.
        failure: makes what is raised where that cannot be, from what became of the file.
    """
    try:
        if not _overwrite(path):
            return False
    except OSError as error:
        raise failure("cannot be overwritten", error) from error
    try:
        path.unlink()
        sync(path.parent)
    except OSError as error:
        raise failure("could be overwritten, and not deleted", error) from error
    return True


def _overwrite(path: Path) -> bool:
    """Overwrite a file with random bytes, up to the disk; False if there is none.

    What a disk keeps of overwritten blocks, as SSDs and some file systems do, is beyond reach.

    Raises:
        OSError: that cannot be, or it is a link.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        left = os.fstat(descriptor).st_size
        while left > 0:
            left -= os.write(descriptor, secrets.token_bytes(min(left, 65_536)))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True
