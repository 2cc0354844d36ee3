"""The standard descriptors of a program: always there, and never losing anything in silence.

A process may be started with any of the descriptors 0 to 2 closed.  The next file that it opens
would then take the place, and what is printed would go into a database.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fog_compute.errors import EXHAUSTED, is_exhaustion
from fog_compute.text import one_line

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "LINE_LENGTH",
    "STDIN",
    "LostOutput",
    "drop_output",
    "fill_descriptors",
    "run_program",
    "tell",
    "why",
]

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2

LINE_LENGTH: Final = 2000
"""Characters of one line for a person, whatever the words in it are."""

FAILED: Final = 1
INTERRUPTED: Final = 130

_NAMES: Final = {STDOUT: "standard output", STDERR: "standard error"}

# Turned the wrong way round, so that use is an error; what goes to standard error is only lost.
_SUBSTITUTES: Final = ((STDIN, os.O_WRONLY), (STDOUT, os.O_RDONLY), (STDERR, os.O_WRONLY))


class LostOutput(OSError):
    """Standard output or standard error did not take what was written."""


class _Output(io.FileIO):
    """A standard descriptor that takes what it is given, also where it is set not to wait."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write; an error names the stream, whatever library was printing."""
        try:
            while (count := self._try(data)) is None:
                _wait_writable(self.fileno())
        except OSError as error:
            reason = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise LostOutput(error.errno, reason, _NAMES[self.fileno()]) from None
        return count

    def _try(self, data: ReadableBuffer) -> int | None:
        return super().write(data)


def fill_descriptors() -> None:
    """Fill what is closed of the descriptors 0 to 2; call it before anything is opened.

    A closed standard input becomes one that fails when read, a closed standard output one that
    fails when written to, and a closed standard error one that forgets.
    """
    for number, direction in _SUBSTITUTES:
        if _is_open(number):
            continue
        opened = os.open(os.devnull, direction | os.O_CLOEXEC)
        if opened == number:
            os.set_inheritable(number, True)
        else:
            os.dup2(opened, number)
            os.close(opened)
    if sys.stdin is None:
        sys.stdin = open(STDIN, closefd=False)  # noqa: SIM115  # as long as the process
    # What a test put in place stays.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(STDOUT, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(STDERR, sys.stderr)


def run_program(name: str, main: Callable[[], int]) -> int:
    """Run a program; what it could not write or read is one line, and its exit code is true."""
    try:
        fill_descriptors()
        code = _exit_code(main)
        sys.stdout.flush()
    except OSError as error:
        drop_output()
        code = FAILED
        # Who read the output has gone by will: there is nobody to tell.
        if error.errno != errno.EPIPE:
            tell(name, why(error))
    except KeyboardInterrupt:
        drop_output()
        code = INTERRUPTED
    except (MemoryError, RuntimeError, BaseExceptionGroup) as error:
        if not is_exhaustion(error):
            raise
        drop_output()
        tell(name, EXHAUSTED)
        code = FAILED
    _end_errors()
    return code


def why(error: OSError) -> str:
    """An error of the system in one line: on what, and which."""
    if isinstance(error, FileNotFoundError) and error.filename is None and not _stands_somewhere():
        return "the current folder is deleted: go to another one"
    what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    return f"{what}: {error.strerror}" if what and error.strerror else str(error)


def _stands_somewhere() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def tell(name: str, message: str) -> None:
    """Write one line to standard error, if it takes one."""
    try:
        sys.stderr.write(f"{name}: {one_line(message, LINE_LENGTH)}\n")
        sys.stderr.flush()
    except OSError:
        _forget(STDERR)


def drop_output() -> None:
    """Let what standard output has not taken go nowhere: the end of the process is quiet."""
    _forget(STDOUT)


def _exit_code(main: Callable[[], int]) -> int:
    try:
        return main()
    except SystemExit as end:  # how argparse ends
        return end.code if isinstance(end.code, int) else FAILED if end.code else 0


def _end_errors() -> None:
    """Keep what standard error did not take from changing the exit code."""
    try:
        sys.stderr.flush()
    except OSError:
        _forget(STDERR)


def _forget(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError as error:
        return error.errno != errno.EBADF
    return True


def _text(number: int, before: io.TextIOBase | None) -> io.TextIOWrapper:
    """A text stream on a standard descriptor: what its encoding lacks is escaped."""
    raw = _Output(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=None if before is None else before.encoding,
        errors="backslashreplace",
        line_buffering=number == STDERR or raw.isatty(),
    )


def _wait_writable(number: int) -> None:
    waiting = select.poll()
    waiting.register(number, select.POLLOUT)
    waiting.poll()
