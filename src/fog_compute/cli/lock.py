"""The lock on a home folder."""

from __future__ import annotations

import errno
import fcntl
import os

from fog_compute.cli.common import CommandError
from fog_compute.layout import HomeLayout

__all__ = ["HomeLock"]


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
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise CommandError(f"{self._path} cannot be locked: {error.strerror}") from error
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor
        return True

    def holder(self) -> int | None:
        """The process that holds the lock; None if nobody does."""
        if not self._path.exists():
            return None
        if self.take():
            self.give_back()
            return None
        try:
            return int(self._path.read_text("utf-8"))
        except ValueError:
            return None

    def give_back(self) -> None:
        """Let another process have it; the file stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
