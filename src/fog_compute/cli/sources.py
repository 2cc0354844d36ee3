"""What goes with a task: files, folders and globs, and what comes on standard input.

A file is opened when it is sent, and read piece by piece; what is no regular file is read to its
end before, because its length must be told.
"""

from __future__ import annotations

import contextlib
import glob
import os
import select
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from fog_compute.cli.codes import TIMED_OUT, USAGE
from fog_compute.cli.common import CommandError
from fog_compute.cli.patience import OutOfTime
from fog_compute.client.sources import Source
from fog_compute.descriptors import STDIN
from fog_compute.layout import MAX_BLOB_BYTES
from fog_compute.reading import TooLarge, read_descriptor, read_file
from fog_compute.tasks.folder import MAX_INPUTS
from fog_compute.tasks.model import INPUT_BYTES
from fog_compute.text import as_named
from fog_compute.units import format_bytes

__all__ = ["Inputs", "piped_input", "read_blob", "source_of", "standard_input"]

PIPE_WAIT_S: Final = 1.0
"""How long a pipe that nobody asked for may take to bring its first byte."""

_MAGIC: Final = frozenset("*?[")


def source_of(path: str, what: str) -> Source:
    """Look at a file that goes with a task; ``what`` says what it is.

    Raises:
        CommandError: it cannot be read, or is too large.
    """
    name = f"{what} file {as_named(path)}"
    with _told(path, what):
        found = os.stat(path)  # noqa: PTH116  # a path that is no text stays as it is
        if not stat.S_ISREG(found.st_mode):
            return Source.of(name, read_file(path, MAX_BLOB_BYTES))
        if found.st_size > MAX_BLOB_BYTES:
            raise TooLarge(MAX_BLOB_BYTES, path, found.st_size)
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))  # whether it may be read
        return Source(name, found.st_size, path)


def read_blob(path: str, what: str) -> bytes:
    """Read a whole file that goes with a task; ``what`` says what it is."""
    with _told(path, what):
        return read_file(path, MAX_BLOB_BYTES)


@contextlib.contextmanager
def _told(path: str, what: str) -> Iterator[None]:
    """Say in one line what keeps a file from being read."""
    name = as_named(path)
    try:
        yield
    except FileNotFoundError:
        raise CommandError(f"{what} file {name} does not exist: check the path", USAGE) from None
    except IsADirectoryError:
        raise CommandError(f"{what} {name} is a folder: give a file", USAGE) from None
    except OSError as error:
        raise CommandError(f"{what} file {name} cannot be read: {error.strerror}", USAGE) from error
    except OutOfTime:
        raise _endless(f"{what} file {name}") from None


def _endless(what: str) -> CommandError:
    """It did not end within the time that the command was given."""
    return CommandError(
        f"{what} did not come to its end in time, so nothing was sent: does anybody write to it?",
        TIMED_OUT,
    )


# Standard input


def standard_input(option: str) -> Source:
    """Return what ``--stdin`` names: a file, or this command's own standard input for ``-``."""
    return source_of(option, "standard input") if option != "-" else _own_input()


def piped_input() -> tuple[Source | None, str]:
    """Return what a pipe or a redirection brings that nobody asked for, and what to say of it.

    Nobody waits for it who did not ask: of a terminal or a device nothing is taken, of a file only
    if nobody has read from it, and of a pipe that stays silent nothing, which is said.
    """
    try:
        mode = os.fstat(STDIN).st_mode
        if stat.S_ISREG(mode):
            if os.lseek(STDIN, 0, os.SEEK_CUR) or not os.fstat(STDIN).st_size:
                return None, ""
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
    except OutOfTime:
        raise _endless("standard input") from None
    return Source.of("standard input", data)


# Input files


class Inputs:
    """Input files by their names in the task's folder.

    Attributes:
        by_name: what stands where.
    """

    def __init__(self, *others: Source | None) -> None:
        """Begin with no file, and the size of ``others``, which go with the task too."""
        self.by_name: Final[dict[str, Source]] = {}
        self._total = sum(other.size for other in others if other is not None)

    def add_all(self, texts: Sequence[str]) -> None:
        """Add what ``--input`` names: PATH or PATH=NAME, of a file, a folder or a glob.

        Raises:
            CommandError: something cannot be read, or two files would have one name.
        """
        for text in texts:
            path, name = _split(text)
            if os.path.isdir(path):  # noqa: PTH112  # it may be no text
                self._add_folder(path, _folder_name(path) if name is None else name)
            elif _MAGIC.isdisjoint(path) or os.path.lexists(path):
                self.add(Path(path).name if name is None else name, path)
            else:
                self._add_glob(path, name)

    def add(self, name: str, path: str, what: str = "input") -> None:
        """Add one file."""
        if name in self.by_name:
            raise CommandError(
                f"two input files would be {name!r} in the sandbox: name one of them with"
                " --input PATH=NAME",
                USAGE,
            )
        source = source_of(path, what)
        self.by_name[name] = source
        if len(self.by_name) > MAX_INPUTS:
            raise CommandError(
                f"more than {MAX_INPUTS} input files with {as_named(path)}: pack them into one",
                USAGE,
            )
        self._total += source.size
        if self._total > INPUT_BYTES:
            raise CommandError(
                f"module and inputs have more than {format_bytes(INPUT_BYTES)} together with the"
                f" input {as_named(path)}: send less",
                USAGE,
            )

    def _add_glob(self, pattern: str, name: str | None) -> None:
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # of any text
        if not found:
            raise CommandError(f"input {as_named(pattern)}: no file matches it", USAGE)
        for path in found:
            if not os.path.isdir(path):  # noqa: PTH112
                self.add(_joined(name or "", Path(path).name), path)

    def _add_folder(self, folder: str, name: str) -> None:
        """Add the files below a folder under their relative names; links to folders are left."""
        before = len(self.by_name)
        for at, folders, files in os.walk(folder, onerror=_refuse):
            folders.sort()
            below = os.path.relpath(at, folder)
            for file in sorted(files):
                path = os.path.join(at, file)  # noqa: PTH118  # as it was given
                with _told(path, "input"):
                    regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
                if not regular:
                    raise CommandError(
                        f"{as_named(path)} is no file: an input folder holds files and folders",
                        USAGE,
                    )
                self.add(_joined(name, "" if below == "." else below, file), path)
        if len(self.by_name) == before:
            raise CommandError(f"input folder {as_named(folder)} holds no file", USAGE)


def _split(text: str) -> tuple[str, str | None]:
    """Split PATH=NAME; a PATH that exists as a whole is taken as it is."""
    path, separator, name = text.rpartition("=")
    with contextlib.suppress(OSError, ValueError):  # too long to be the path of a file
        if os.path.lexists(text):
            separator = ""
    return (path, name) if separator else (text, None)


def _folder_name(path: str) -> str:
    """Return the name of a folder as it is written; the present one and its parents have none."""
    name = Path(path).name
    return "" if name in ("", "..") else name


def _joined(*parts: str) -> str:
    """Join what there is of the parts of a name; a dot stands for the working directory."""
    return "/".join(part for part in parts if part not in ("", "."))


def _refuse(error: OSError) -> None:
    raise CommandError(
        f"input folder {as_named(str(error.filename))} cannot be read: {error.strerror}", USAGE
    ) from None
