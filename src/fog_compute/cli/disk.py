"""What a home's file system must be able to do, tried in a folder that is gone afterwards.

A part that meets a file system without locks, or a full one, only says what the last call said,
long after it began and many starts later.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from fog_compute.units import MIB, format_bytes

__all__ = ["disk_problems", "nearest"]

ROOM_BYTES: Final = 1 * MIB
"""What a start writes, and a disk must have room for."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_SAID_ELSEWHERE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def nearest(path: Path) -> Path:
    """Return a path, or the first folder above it, that is there.

    Raises:
        OSError: it may not be looked at.
    """
    return next(place for place in (path, *path.parents) if place.exists())


def disk_problems(home: Path) -> Iterator[str]:
    """Yield what the disk below a home cannot do; where nothing may be made, nothing is tried."""
    place = nearest(home)
    try:
        with tempfile.TemporaryDirectory(
            prefix=".fog-", dir=place, ignore_cleanup_errors=True
        ) as folder:
            yield from _try_all(home, Path(folder))
    except OSError as error:
        if error.errno in _FULL:
            yield _full(home, place)
        elif error.errno not in _SAID_ELSEWHERE:
            yield f"the home folder {home} cannot be used ({error.strerror}): set FOG_HOME"


def _try_all(home: Path, folder: Path) -> Iterator[str]:
    file = folder / "a"
    lacking: list[str] = []
    reason = ""
    for what, attempt in _ATTEMPTS:
        try:
            attempt(file)
        except OSError as error:
            if error.errno in _FULL:
                yield _full(home, folder)
                return
            lacking.append(what)
            reason = reason or error.strerror or str(error)
    if lacking:
        yield (
            f"the file system of {home} refuses what a fog needs, {', '.join(lacking)} ({reason}):"
            " set FOG_HOME to a folder on a disk of this machine"
        )


def _full(home: Path, place: Path) -> str:
    found = os.statvfs(place)
    if found.f_files and not found.f_favail:
        return f"the disk below {home} takes no more files: delete some, or set FOG_HOME"
    return (
        f"the disk below {home} is full, and a fog needs {format_bytes(ROOM_BYTES)} to begin:"
        " make room, or set FOG_HOME to another place"
    )


# Attempts, each with the file that the first one makes


def _write(file: Path) -> None:
    with file.open("wb") as opened:
        opened.write(bytes(ROOM_BYTES))
        opened.flush()
        os.fsync(opened.fileno())


def _lock(file: Path) -> None:
    with file.open("rb") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_range(file: Path) -> None:
    with file.open("r+b") as opened:
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _map(file: Path) -> None:
    with file.open("r+b") as opened:
        mmap.mmap(opened.fileno(), mmap.PAGESIZE).close()


def _link(file: Path) -> None:
    os.link(file, file.with_name("b"))


def _rename(file: Path) -> None:
    fresh = file.with_name("c")
    fresh.touch()
    fresh.replace(file)


_ATTEMPTS: Final[tuple[tuple[str, Callable[[Path], None]], ...]] = (
    ("writing to the disk", _write),
    ("locks", _lock),
    ("locks of databases", _lock_range),
    ("shared memory in files", _map),
    ("hard links", _link),
    ("renaming", _rename),
)
