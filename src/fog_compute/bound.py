"""Becomes another program that ends with its parent: for programs that know of no such tie.

``python -m fog_compute.bound PARENT FOLDER PROGRAM ARGUMENTS…``, where ``PARENT`` is the process
that starts it, and it runs in ``FOLDER``. What the kernel was asked for stays in force when the
program changes; standard input, the second tie of our own programs, is read by none of these.
"""

from __future__ import annotations

import os
import signal
import sys

from fog_compute import spawn
from fog_compute.kernel import be_killed_with_parent
from fog_compute.lifetime import EXIT_UNUSABLE, announce, undo_inherited_signals

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Become the program; return an exit code only where that cannot be."""
    parent, folder, *command = arguments
    if not be_killed_with_parent():
        announce("error", message="this sandbox ties no program to its parent: it would stay")
        return EXIT_UNUSABLE
    if os.getppid() != int(parent):  # it ended before the kernel was asked
        return os.EX_UNAVAILABLE
    undo_inherited_signals()
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by this interpreter
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.chdir(folder)
        spawn.become(command)
    except OSError as error:
        announce("error", message=f"{command[0]} cannot be run: {error.strerror}")
    return EXIT_UNUSABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
