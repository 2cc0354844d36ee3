"""Reading what others wrote: every read has a limit, and takes at most one byte more to know it.

What a file says of its size is no limit: a device, a pipe and most files of ``/proc`` say nothing,
and any other may grow meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fog_compute.units import KIB, MIB, format_bytes

__all__ = [
    "STATE_BYTES",
    "TooLarge",
    "open_state",
    "read_descriptor",
    "read_file",
    "read_state",
    "read_tail",
    "read_token",
]

STATE_BYTES: Final = 1 * MIB
"""What the largest of the small files that a fog keeps for itself may have."""

PIECE_BYTES: Final = 256 * KIB

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{32,256}")


class TooLarge(OSError):
    """There is more to read than fits."""

    def __init__(self, limit: int, name: str, size: int | None = None) -> None:
        fits = format_bytes(limit)
        reason = f"it has more than {fits}"
        if size is not None:
            has = format_bytes(size)
            if has == fits:
                has, fits = f"{size} bytes", f"{limit}"
            reason = f"it has {has}, and at most {fits} fit"
        super().__init__(errno.EFBIG, reason, name)


def read_file(path: str | Path, limit: int) -> bytes:
    """Read a file, a pipe or a device to its end.

    Raises:
        TooLarge: it has more than ``limit`` bytes; one more was read at most.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if stat.S_ISREG(found.st_mode) and found.st_size > limit:
            raise TooLarge(limit, str(path), found.st_size)
        return read_descriptor(descriptor, limit, str(path))
    finally:
        os.close(descriptor)


def read_descriptor(descriptor: int, limit: int, name: str) -> bytes:
    """Read an open descriptor to its end, also where it is set not to wait.

    Raises:
        TooLarge: there are more than ``limit`` bytes; one more was read at most.
        OSError: it cannot be read; the error names ``name``.
    """
    data = bytearray()
    while len(data) <= limit:
        try:
            piece = os.read(descriptor, min(PIECE_BYTES, limit + 1 - len(data)))
        except BlockingIOError:
            _wait_readable(descriptor)
            continue
        except OSError as error:
            reason = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise OSError(error.errno, reason, name) from None
        if not piece:
            return bytes(data)
        data += piece
    raise TooLarge(limit, name)


@contextlib.contextmanager
def open_state(path: Path) -> Iterator[int]:
    """Open a file that a fog wrote for itself; anything else in its place is refused.

    Raises:
        OSError: it cannot be opened, or is a pipe, which might never end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        yield descriptor
    finally:
        os.close(descriptor)


def read_state(path: Path, limit: int = STATE_BYTES) -> bytes:
    """Read a file that a fog wrote for itself.

    Raises:
        TooLarge: it has more than ``limit`` bytes.
        OSError: it cannot be read, or is no regular file.
    """
    with open_state(path) as descriptor:
        return read_descriptor(descriptor, limit, str(path))


def read_token(path: Path) -> str:
    """Read the file that holds the token of the HTTP interface.

    Raises:
        ValueError: what it holds is none.
        OSError: it cannot be read, or is no regular file.
    """
    token = read_state(path).decode("ascii", errors="replace").strip()
    if _TOKEN.fullmatch(token) is None:
        raise ValueError("no token")
    return token


def read_tail(path: Path, limit: int) -> bytes:
    """Read at most the last ``limit`` bytes of a file that may still grow.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with open_state(path) as descriptor:
        return os.pread(descriptor, limit, max(0, os.fstat(descriptor).st_size - limit))


def _wait_readable(descriptor: int) -> None:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    waiting.poll()
