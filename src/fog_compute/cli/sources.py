"""What a command is given to send with a task: PATH=NAME, and what comes on standard input."""

from __future__ import annotations

import contextlib
import os
import select
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from fog_compute.cli.codes import TIMED_OUT, USAGE
from fog_compute.cli.common import CommandError, note
from fog_compute.cli.patience import OutOfTime
from fog_compute.client.inputs import Inputs, has_magic, source_of
from fog_compute.client.sources import Source
from fog_compute.descriptors import STDIN
from fog_compute.layout import MAX_BLOB_BYTES
from fog_compute.reading import read_descriptor
from fog_compute.units import format_bytes

__all__ = ["add_all", "in_time", "names_something", "piped_input", "standard_input"]

PIPE_WAIT_S: Final = 1.0
"""How long a pipe that nobody asked for may take to bring its first byte."""


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """Name the file that did not come to its end within the time that the command was given."""
    try:
        yield
    except OutOfTime as error:
        what = next(iter(getattr(error, "__notes__", ())), "a file")
        raise CommandError(
            f"{what} did not come to its end in time, so nothing was sent: does anybody write to"
            " it?",
            TIMED_OUT,
        ) from None


def add_all(inputs: Inputs, texts: Sequence[str]) -> None:
    """Add what ``--input`` names: PATH or PATH=NAME, of a file, a folder or a glob.

    Raises:
        FogError: something cannot be read, or two files would have one name.
    """
    for text in texts:
        inputs.add_path(*_split(text))


def _split(text: str) -> tuple[str, str | None]:
    """Split PATH=NAME; a PATH that exists as a whole is taken as it is."""
    path, separator, name = text.rpartition("=")
    with contextlib.suppress(OSError, ValueError):  # too long to be the path of a file
        if os.path.lexists(text):
            separator = ""
    return (path, name) if separator else (text, None)


def names_something(text: str) -> bool:
    """Whether ``--input`` would find something there, or look for it by a glob."""
    path, _ = _split(text)
    try:
        return os.path.lexists(path) or has_magic(path)
    except (OSError, ValueError):
        return False


# Standard input


def standard_input(option: str) -> Source:
    """Return what ``--stdin`` names: a file, or this command's own standard input for ``-``."""
    if option != "-":
        return source_of(option, "standard input")
    if os.isatty(STDIN):
        note("standard input is this terminal: Ctrl-D at the begin of a line ends it")
    return _own_input()


def piped_input() -> tuple[Source | None, str]:
    """Return what a pipe or a redirection brings that nobody asked for, and what to say of it.

    Nobody waits for it who did not ask: of a terminal nothing is taken, of a file only if nobody
    has read from it, as a shell's loop does, and of a device or a pipe that stays silent nothing,
    which is said.
    """
    try:
        mode = os.fstat(STDIN).st_mode
        if stat.S_ISREG(mode):
            if os.lseek(STDIN, 0, os.SEEK_CUR) or not os.fstat(STDIN).st_size:
                return None, ""
        elif stat.S_ISCHR(mode) and not _brings_nothing():
            return None, (
                "standard input is a device, and is not sent: give --stdin - to read it to its end,"
                " or </dev/null"
            )
        elif not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            return None, ""
        elif not _brings_something():
            return None, (
                "standard input is a pipe that brought nothing so far, and is not sent: give"
                " --stdin - to wait for it, or </dev/null"
            )
    except OSError:
        return None, ""  # it is closed
    source = _own_input()
    if not source.size:
        return None, ""
    said = f"standard input ({format_bytes(source.size)}) goes with the task; </dev/null keeps it"
    return source, said


def _brings_nothing() -> bool:
    """Whether standard input is a terminal, or the device that has nothing."""
    return os.isatty(STDIN) or os.fstat(STDIN).st_rdev == Path(os.devnull).stat().st_rdev


def _brings_something() -> bool:
    """Wait a moment for the first byte of a pipe, or for its end."""
    waiting = select.poll()
    waiting.register(STDIN, select.POLLIN)
    return bool(waiting.poll(PIPE_WAIT_S * 1000))


def _own_input() -> Source:
    try:
        data = read_descriptor(STDIN, MAX_BLOB_BYTES, "standard input")
    except OSError as error:
        raise CommandError(f"standard input cannot be read: {error.strerror}", USAGE) from None
    except OutOfTime as error:
        error.add_note("standard input")
        raise
    return Source.of("standard input", data)
