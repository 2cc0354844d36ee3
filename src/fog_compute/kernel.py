"""What a process asks of the Linux kernel about itself and its children."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
from pathlib import Path
from typing import Final

__all__ = [
    "be_killed_with_parent",
    "give_up_privileges",
    "let_others_go_first",
    "limits_of",
    "set_limits",
]

_LAST: Final = 19  # the nicest that a process can be
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


def be_killed_with_parent() -> bool:
    """Have the kernel kill this process when its parent ends; too late if it has ended already.

    False where a sandbox refuses that: who must not outlive the parent needs a second tie.
    """
    return _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def give_up_privileges() -> bool:
    """Let no program that this process could start gain rights that it does not have.

    False where a sandbox refuses that.
    """
    return _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def let_others_go_first(pid: int) -> None:
    """Give a process's threads, and those that they start, the processor time that is left over.

    Where the kernel does not let that be, they compete as before.
    """
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), _LAST)
    # Sessions share the processors where the kernel groups by them, and niceness counts within one.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(_LAST), "ascii")


def limits_of(which: int) -> tuple[int, int]:
    """The soft and the hard limit of this process.

    Raises:
        OSError: a sandbox refuses to tell.
    """
    try:
        return resource.getrlimit(which)
    except OSError as error:
        raise _refused(error.errno) from error


def set_limits(which: int, soft: int, hard: int) -> None:
    """Set both limits of this process.

    Raises:
        OSError: they are not its to set, or a sandbox refuses.
    """
    try:
        resource.setrlimit(which, (soft, hard))
    except (OSError, ValueError) as error:  # what it may not raise is a ValueError
        raise _refused(error.errno if isinstance(error, OSError) else errno.EPERM) from error


def _refused(number: int | None) -> OSError:
    number = errno.EPERM if number is None else number
    return OSError(number, f"limits of processes are refused (prlimit): {os.strerror(number)}")


def _prctl(option: int, argument: int) -> bool:
    return bool(ctypes.CDLL(None).prctl(option, argument, 0, 0, 0) == 0)
