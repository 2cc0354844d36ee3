"""Locks on files, which the kernel gives back at any death of who holds them.

The file stays, and its content means nothing here. Who only looks whether somebody holds a lock has
it for a moment himself, so that who wants it tries for a while.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

__all__ = ["is_locked", "take_lock", "try_lock"]

TRIES: Final = 50
PAUSE_S: Final = 0.02


def try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file until it is closed; False if another process has it locked.

    Raises:
        OSError: this folder knows no locks, or the kernel has none left: nobody holds it.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def take_lock(path: Path, tries: int = TRIES) -> int | None:
    """Lock a file, made for its owner alone if it is not there, until what is returned is closed.

    None if another process has it, at each of so many ``tries``. On a busy machine who only looks
    may take longer than he should, and one that stands still takes no try away.

    Raises:
        OSError: it cannot be opened, or this folder knows no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for left in range(tries, 0, -1):
            if try_lock(descriptor):
                return descriptor
            if left > 1:
                time.sleep(PAUSE_S)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def is_locked(path: Path) -> bool:
    """Whether another process holds a file's lock; not if there is no file.

    Raises:
        OSError: it cannot be opened, or this folder knows no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
