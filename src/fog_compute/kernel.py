"""What a process asks of the Linux kernel about itself."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
from typing import Final

__all__ = ["be_killed_with_parent", "give_up_privileges", "try_lock"]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


def be_killed_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; too late if it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def give_up_privileges() -> None:
    """Let no program that this process could start gain rights that it does not have."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


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


def _prctl(option: int, argument: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "prctl")
