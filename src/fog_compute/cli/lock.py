"""The lock on a home folder."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from typing import Final

from fog_compute.cli.common import CommandError
from fog_compute.layout import HomeLayout

__all__ = ["HomeLock"]

PID_BYTES: Final = 20
LOOKED_AT_S: Final = 1.0
PAUSE_S: Final = 0.02


class HomeLock:
    """The lock on a home folder: one fog per folder. The kernel gives it back at any death."""

    def __init__(self, layout: HomeLayout) -> None:
        """Take nothing yet."""
        self._path = layout.lock_file
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Try to take the lock; False if another process has it."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            taken = self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if not taken:
            os.close(descriptor)
            return False
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor
        return True

    def holder(self) -> int | None:
        """The process that holds the lock; None if nobody does."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if self._flock(descriptor, fcntl.LOCK_SH):
                return None
            pid = int(os.pread(descriptor, PID_BYTES, 0))
        except ValueError:
            return None
        finally:
            os.close(descriptor)
        return pid if pid > 1 else None

    def _take(self, descriptor: int) -> bool:
        """Take the lock; a command that only looks who has it holds it for a moment.

        On a busy machine the moment may last.
        """
        deadline = time.monotonic() + LOOKED_AT_S
        while not self._flock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_S)
        return True

    def _flock(self, descriptor: int, kind: int) -> bool:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise CommandError(f"{self._path} cannot be locked: {error.strerror}") from error
        return True

    def give_back(self) -> None:
        """Let another process have it; the file stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
