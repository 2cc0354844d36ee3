"""Ending a child process, on kernels and in containers that have no handles of processes, too."""

from __future__ import annotations

import contextlib
import os
import signal

from fog_compute.processes import ProcessMark

__all__ = ["ChildHandle"]


class ChildHandle:
    """Names a child for as long as it is needed, and never another process."""

    def __init__(self, pid: int) -> None:
        """Take hold of a child that was started just now."""
        self._handle: int | None = None
        self._mark = ProcessMark.of(pid)
        with contextlib.suppress(OSError):  # it has ended already, or handles are refused
            self._handle = os.pidfd_open(pid)

    def kill(self) -> None:
        """End the child, if it has not ended, and let go of it."""
        handle, self._handle = self._handle, None
        if handle is None:
            self._kill_by_mark()
            return
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            pass
        except OSError:
            self._kill_by_mark()
        finally:
            os.close(handle)

    def _kill_by_mark(self) -> None:
        if self._mark is not None:
            self._mark.send(signal.SIGKILL)
