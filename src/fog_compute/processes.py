"""Which process a number means: a number from a file names one only with proof.

Numbers of processes are given out again, and mean another process in each container. So a process
that leaves its number somewhere leaves a mark with it: the space of numbers it lives in, the boot
of the machine, and when it started. Who finds a mark asks the kernel whether all of that is still
so, and sends a signal over a handle that cannot come to mean another process in between.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from fog_compute.clock import SystemClock

__all__ = ["ProcessMark"]

_AFTER_NAME: Final = 19
"""Where the start time stands in ``/proc/PID/stat``, counted from the state after the name."""

_REFUSED: Final = (errno.ENOSYS, errno.EPERM, errno.EINVAL)
"""How a kernel or a container says that it has no handles of processes."""


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """One process of one boot of one machine.

    Attributes:
        pid: its number, in its own space of numbers.
        space: that space, as the kernel names it.
        boot: the boot of the machine.
        started: when it started, in ticks of the kernel since the boot.
    """

    pid: int
    space: str
    boot: str
    started: int

    @classmethod
    def of_this_process(cls) -> Self | None:
        """The mark of this process; None where the kernel does not tell."""
        try:
            return cls(os.getpid(), _space(), _boot(), _started("self"))
        except (OSError, ValueError):
            return None

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The mark of a process, such as a child just started; None if there is none any more."""
        try:
            return cls(pid, _space(), _boot(), _started(str(pid)))
        except (OSError, ValueError):
            return None

    @classmethod
    def parse(cls, fields: Any) -> Self:
        """Read what :meth:`as_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        match fields:
            case {"pid": int(pid), "space": str(space), "boot": str(boot), "started": int(started)}:
                if pid >= 1 and not isinstance(pid, bool):
                    return cls(pid, space, boot, started)
        raise ValueError("no mark of a process")

    def as_json(self) -> dict[str, str | int]:
        """Fields for JSON."""
        return {
            "pid": self.pid,
            "space": self.space,
            "boot": self.boot,
            "started": self.started,
        }

    def elsewhere(self) -> str | None:
        """Where the process is, if its number means nothing here; None if it does."""
        try:
            if self.boot != _boot():
                return "on another machine"
            # A container may show the processes of another: then no number can be looked up.
            if self.space != _space() or Path("/proc/self").readlink().name != str(os.getpid()):
                return "in another container"
        except OSError as error:
            return f"where it cannot be seen ({error.filename}: {error.strerror})"
        return None

    def alive(self) -> bool:
        """Whether the kernel confirms that this very process is here."""
        if self.elsewhere() is not None:
            return False
        try:
            return _started(str(self.pid)) == self.started
        except (OSError, ValueError):
            return False

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to this very process; False if it is not there.

        Raises:
            PermissionError: it is another user's.
        """
        handle: int | None = None
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
        try:
            # The handle is open: from here on the number cannot come to mean another process.
            if not self.alive():
                return False
            with contextlib.suppress(ProcessLookupError):
                if handle is None or not _sent(handle, number):
                    os.kill(self.pid, number)
                return True
            return False
        finally:
            if handle is not None:
                os.close(handle)


def _sent(handle: int, number: signal.Signals) -> bool:
    """Send a signal over a handle; False where the kernel or a container refuses just that."""
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        raise
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return False
    return True


def _space() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _boot() -> str:
    boot = SystemClock().boot
    if not boot:
        raise FileNotFoundError(errno.ENOENT, "the kernel does not name its boot", "/proc")
    return boot


def _started(process: str) -> int:
    text = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    # The name stands in parentheses, and may hold some.
    return int(text.rpartition(")")[2].split()[_AFTER_NAME])
