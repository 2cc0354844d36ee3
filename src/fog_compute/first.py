"""Process 1 of a container: it collects what ends and belongs to nobody, and hands signals on.

A process whose parent has ended becomes a child of process 1, which has to ask for its exit code,
or it stays as a zombie for ever. Who runs children of its own cannot do that beside them without
taking their exit codes from whoever waits for those. So process 1 stays behind as a parent that
does nothing else, and the program goes on in its only child.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final

from fog_compute.kernel import be_killed_with_parent

__all__ = ["go_below_first_process", "is_first_process"]

FIRST: Final = 1
HANDED_ON: Final = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
SIGNALLED: Final = 128
"""What a shell adds to the number of the signal that ended a process."""


def is_first_process() -> bool:
    """Whether this is process 1 of its container."""
    return os.getpid() == FIRST


def go_below_first_process() -> None:
    """Where this is process 1, go on in a child of it; elsewhere do nothing.

    Call it before anything is open that two processes must not share, and before threads; the end
    of children must not be ignored.
    """
    if is_first_process():
        _split()


def _split() -> None:
    heard = {*HANDED_ON, signal.SIGCHLD}
    # A signal that is blocked waits, so that none is lost before somebody can take it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    child = os.fork()
    if child:
        _stay(child, heard)
    # A Ctrl-C reaches process 1 alone, which hands it on: here it would count twice.
    os.setsid()
    be_killed_with_parent()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stay(child: int, heard: set[signal.Signals]) -> None:
    """Collect and hand on until the child ends, and end as it did."""
    while True:
        number = signal.sigwait(heard)
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
        code = _collect(child)
        if code is not None:
            # Not `sys.exit`: what is open, and runs at the end, is the child's.
            os._exit(code if code >= 0 else SIGNALLED - code)


def _collect(child: int) -> int | None:
    """Collect all that has ended; return the exit code of the child once it has."""
    ended: int | None = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid == child:
                ended = os.waitstatus_to_exitcode(status)
    return ended
