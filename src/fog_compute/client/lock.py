"""The lock on a home folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from typing import Final, TypeAlias

from fog_compute.errors import HomeUnusable
from fog_compute.layout import HomeLayout
from fog_compute.locking import take_lock, try_lock
from fog_compute.processes import ProcessMark

__all__ = ["Free", "HeldBy", "HeldByUnknown", "Holder", "HomeLock", "where"]

RECORD_BYTES: Final = 512
PAUSE_S: Final = 0.02
READ_TRIES: Final = 5
_NAMELESS: Final = "a process that cannot be named here"


@dataclass(frozen=True, slots=True)
class Free:
    """Nobody holds the lock."""


@dataclass(frozen=True, slots=True)
class HeldBy:
    """This very process holds the lock, and its number means it here."""

    process: ProcessMark


@dataclass(frozen=True, slots=True)
class HeldByUnknown:
    """Somebody holds the lock who cannot be named here; ``where`` says what is known."""

    where: str


Holder: TypeAlias = Free | HeldBy | HeldByUnknown


def where(holder: HeldBy | HeldByUnknown) -> str:
    """Who holds a lock, as words in parentheses would say it."""
    return f"process {holder.process.pid}" if isinstance(holder, HeldBy) else holder.where


class HomeLock:
    """The lock on a home folder: one fog per folder. The kernel gives it back at any death."""

    def __init__(self, layout: HomeLayout) -> None:
        """Take nothing yet."""
        self._path = layout.lock_file
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Try to take the lock; False if another process has it."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = take_lock(self._path)
        except OSError as error:
            raise self._unusable(error) from error
        if descriptor is None:
            return False
        try:
            self._leave_mark(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def holder(self) -> Holder:
        """Who holds the lock.

        Raises:
            HomeUnusable: that cannot be seen; the text names the path and the reason.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return Free()
        except OSError as error:
            raise HomeUnusable(f"{self._path} cannot be read: {error.strerror}") from error
        try:
            return self._holder(descriptor)
        finally:
            os.close(descriptor)

    def give_back(self) -> None:
        """Let another process have it; the file stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _leave_mark(self, descriptor: int) -> None:
        """Say who holds the lock; where the disk is full nobody is named."""
        mark = ProcessMark.of_this_process()
        os.truncate(descriptor, 0)
        if mark is not None:
            with contextlib.suppress(OSError):
                os.pwrite(descriptor, json.dumps(mark.as_json()).encode() + b"\n", 0)

    def _holder(self, descriptor: int) -> Holder:
        holder: Holder = Free()
        for tries in range(READ_TRIES):
            # Who has just taken it may not have said so yet.
            time.sleep(PAUSE_S if tries else 0)
            try:
                if try_lock(descriptor, fcntl.LOCK_SH):
                    return Free()
            except OSError as error:
                raise self._unusable(error) from error
            holder = self._named(descriptor)
            if isinstance(holder, HeldBy):
                break
        return holder

    def _named(self, descriptor: int) -> Holder:
        try:
            mark = ProcessMark.parse(json.loads(os.pread(descriptor, RECORD_BYTES, 0)))
        except (ValueError, RecursionError):
            return HeldByUnknown(_NAMELESS)
        except OSError as error:
            raise HomeUnusable(f"{self._path} cannot be read: {error.strerror}") from error
        if (place := mark.elsewhere()) is not None:
            return HeldByUnknown(f"process {mark.pid} {place}")
        if not mark.alive():
            return HeldByUnknown(_NAMELESS)
        return HeldBy(mark)

    def _unusable(self, error: OSError) -> HomeUnusable:
        return HomeUnusable(f"{self._path} cannot be locked: {error.strerror}")
