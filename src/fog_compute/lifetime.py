"""Child processes: they end with their owner, whatever way it ends, and tell it how they are.

Two ties to the owner, because each has a hole: the kernel's parent-death signal misses a parent
that died before it was asked for, and end-of-file on standard input needs the owner to hold the
only other end of the pipe.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import signal
import sys
import threading
from typing import Final

from fog_compute.descriptors import drop_output
from fog_compute.kernel import be_killed_with_parent, limits_of, set_limits

__all__ = [
    "EXIT_UNUSABLE",
    "announce",
    "die_with_parent",
    "end_on_hangup",
    "hangup_counts",
    "keep_files_private",
    "port_problem",
    "raise_descriptor_limit",
    "stop_event",
    "undo_inherited_signals",
]

EXIT_UNUSABLE: Final = 78
"""Exit code of a child that a restart cannot help: a setting, a path or a port is unusable."""

DESCRIPTORS: Final = 65536
"""Open files that no process of a fog comes near, whatever the machine would allow."""

UNKNOWN_DESCRIPTORS: Final = 1024
"""The usual limit, for where a sandbox refuses to tell."""

_STDIN: Final = 0
_OWNER_GONE: Final = 70


def die_with_parent() -> None:
    """Tie this process to its parent: when the parent ends, so does this process, at once.

    Standard input must be a pipe whose other end only the parent holds. Call it early and from
    the main thread.
    """
    be_killed_with_parent()
    threading.Thread(target=_exit_at_end_of_input, name="owner-watch", daemon=True).start()


def keep_files_private() -> None:
    """Let nobody but the owner open what this process and its children make from now on.

    The folder around it may have been there before, and be open to all.
    """
    os.umask(0o077)


def raise_descriptor_limit() -> int:
    """Let this process open as many files as it may, within reason; return how many."""
    try:
        soft, hard = limits_of(resource.RLIMIT_NOFILE)
    except OSError:
        return UNKNOWN_DESCRIPTORS
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            set_limits(resource.RLIMIT_NOFILE, most, hard)
        except OSError:  # a sandbox that forbids it: then it stays as it is
            return soft
        return most
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def undo_inherited_signals() -> None:
    """Let exit codes of children be had and requests to end be heard, whoever started this process.

    Some that start programs leave the end of children ignored, or signals blocked. What they have
    ignored on purpose, as `nohup` does, stays ignored. Call it from the main thread.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(
        signal.SIG_UNBLOCK, {signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM}
    )


def announce(event: str, **fields: str | float | bool | None) -> None:
    """Tell the owner something: one JSON object in a line on standard output."""
    try:
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()
    except OSError:
        # The owner no longer listens; if it is gone, this process ends by itself.
        drop_output()


def port_problem(host: str, port: int, error: OSError, *, flag: str = "--port") -> str:
    """Say in one line why a port cannot be used, and what to do; ``flag`` chooses another."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is taken by another program:"
            f" stop it, or choose another port with {flag}"
        )
    return f"port {port} on {host} cannot be used: {error.strerror}"


def stop_event() -> asyncio.Event:
    """An event that SIGTERM, SIGINT and SIGHUP set; call it inside the running loop."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, *_hangup()):
        loop.add_signal_handler(number, event.set)
    return event


def hangup_counts() -> bool:
    """Say whether the end of the terminal is meant to end this process: ``nohup`` ignores it."""
    return signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


def end_on_hangup() -> None:
    """Take the end of the terminal for the request to end, where the latter has its handler."""
    for number in _hangup():
        signal.signal(number, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def _hangup() -> tuple[signal.Signals, ...]:
    return (signal.SIGHUP,) if hangup_counts() else ()


def _exit_at_end_of_input() -> None:
    while True:
        try:
            if not os.read(_STDIN, 4096):
                break
        except InterruptedError:
            continue
        except OSError:
            break
    os._exit(_OWNER_GONE)
