"""Log files of child processes, which append to them by themselves: opened, and kept short."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fog_compute.threads import in_thread

__all__ = ["keep_short", "open_log", "shorten"]

LOG_BYTES: Final = 8 * 1024 * 1024
CHECK_S: Final = 10.0


def open_log(path: Path) -> int:
    """Open a log for a process that appends to it, or raise `OSError`."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


async def keep_short(*folders: Path) -> None:
    """Look after all logs of some folders, which may not be there yet, until cancelled."""
    while True:
        await asyncio.sleep(CHECK_S)
        with contextlib.suppress(OSError):  # no thread now: then at the next look
            await in_thread(_shorten_all, folders)


def _shorten_all(folders: Sequence[Path]) -> None:
    for path in (path for folder in folders for path in folder.glob("*.log")):
        with contextlib.suppress(OSError):  # a full disk: the log stays as it is
            shorten(path, LOG_BYTES)


def shorten(path: Path, limit: int) -> None:
    """Move a log beyond a limit to ``.log.1``; who has it open goes on with an empty one.

    Only a line that comes in the instant between the last read and the cut is lost.
    """
    with path.open("r+b", buffering=0) as log:
        if os.fstat(log.fileno()).st_size > limit:
            with path.with_suffix(".log.1").open("wb", buffering=0) as older:
                shutil.copyfileobj(log, older)  # up to the end, which may still move
                log.truncate(0)
