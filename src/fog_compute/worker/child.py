"""Ending a child process, on kernels and in containers that have no handles of processes."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

__all__ = ["ChildHandle"]

_AFTER_NAME = 19
"""Where the start time stands in ``/proc/PID/stat``, counted from the state after the name."""


class ChildHandle:
    """Names a child for as long as it is needed, and never another process."""

    def __init__(self, pid: int) -> None:
        """Take hold of a child that was started just now."""
        self._pid = pid
        self._handle: int | None = None
        self._started = _started(pid)
        with contextlib.suppress(OSError):  # ended already, or refused: then by number and proof
            self._handle = os.pidfd_open(pid)

    def kill(self) -> None:
        """End the child, if it has not ended, and let go of it."""
        handle, self._handle = self._handle, None
        try:
            if handle is not None:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            else:
                self._kill_by_number()
        except ProcessLookupError:
            pass
        except OSError:
            self._kill_by_number()
        finally:
            if handle is not None:
                os.close(handle)

    def _kill_by_number(self) -> None:
        if self._started is not None and _started(self._pid) == self._started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)


def _started(pid: int) -> int | None:
    """Return when a process started, in ticks since the boot; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        # The name stands in parentheses, and may hold some.
        return int(text.rpartition(")")[2].split()[_AFTER_NAME])
    except (OSError, ValueError, IndexError):
        return None
