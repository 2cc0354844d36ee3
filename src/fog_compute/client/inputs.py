"""Files that go with a task: looked at where they lie, under the names that they have in it.

A file is opened when it is sent, and read piece by piece; what is no regular file is read to its
end before, because its length must be told. What interrupts that has a note of what was read.
"""

from __future__ import annotations

import contextlib
import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fog_compute.client.sources import Source
from fog_compute.errors import InvalidTask, Unreadable
from fog_compute.layout import MAX_BLOB_BYTES
from fog_compute.reading import TooLarge, read_file
from fog_compute.tasks.folder import MAX_INPUTS
from fog_compute.tasks.model import INPUT_BYTES
from fog_compute.text import as_named
from fog_compute.units import format_bytes

__all__ = ["Inputs", "read_blob", "source_of"]

_MAGIC: Final = frozenset("*?[")


def source_of(path: str, what: str) -> Source:
    """Look at a file that goes with a task; ``what`` says what it is.

    Raises:
        Unreadable: it cannot be read, or is too large.
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
        raise Unreadable(f"{what} file {name} does not exist: check the path") from None
    except IsADirectoryError:
        raise Unreadable(f"{what} {name} is a folder: give a file") from None
    except OSError as error:
        raise Unreadable(f"{what} file {name} cannot be read: {error.strerror}") from error
    except BaseException as error:
        error.add_note(f"{what} file {name}")
        raise


class Inputs:
    """Input files by their names in the task's folder.

    Attributes:
        by_name: what stands where.
    """

    def __init__(self, *others: Source | None) -> None:
        """Begin with no file, and the size of ``others``, which go with the task too."""
        self.by_name: Final[dict[str, Source]] = {}
        self._total = sum(other.size for other in others if other is not None)

    def add_path(self, path: str, name: str | None = None) -> None:
        """Add a file, all files of a folder, or those that a glob matches.

        Without ``name`` they stand under their own.

        Raises:
            Unreadable: something cannot be read.
            InvalidTask: two files would have one name, or they are too many or too large.
        """
        if os.path.isdir(path):  # noqa: PTH112  # it may be no text
            self._add_folder(path, _folder_name(path) if name is None else name)
        elif not has_magic(path) or os.path.lexists(path):
            self.add(Path(path).name if name is None else name, path)
        else:
            self._add_glob(path, name)

    def add(self, name: str, path: str, what: str = "input") -> None:
        """Add one file."""
        self._check_name(name)
        self.add_source(name, source_of(path, what), as_named(path))

    def add_source(self, name: str, source: Source, called: str) -> None:
        """Add what is read already, and what a text calls it."""
        self._check_name(name)
        self.by_name[name] = source
        if len(self.by_name) > MAX_INPUTS:
            raise InvalidTask(
                f"more than {MAX_INPUTS} input files with {called}: pack them into one"
            )
        self._total += source.size
        if self._total > INPUT_BYTES:
            raise InvalidTask(
                f"module and inputs have more than {format_bytes(INPUT_BYTES)} together with the"
                f" input {called}: send less"
            )

    def _check_name(self, name: str) -> None:
        if name in self.by_name:
            raise InvalidTask(
                f"two input files would be {name!r} in the sandbox: give one of them another name"
                " in `inputs`"
            )

    def _add_glob(self, pattern: str, name: str | None) -> None:
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # of any text
        if not found:
            raise Unreadable(f"input {as_named(pattern)}: no file matches it")
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
                    raise Unreadable(
                        f"{as_named(path)} is no file: an input folder holds files and folders"
                    )
                self.add(_joined(name, "" if below == "." else below, file), path)
        if len(self.by_name) == before:
            raise Unreadable(f"input folder {as_named(folder)} holds no file")


def has_magic(path: str) -> bool:
    """Whether a path may be a glob."""
    return not _MAGIC.isdisjoint(path)


def _folder_name(path: str) -> str:
    """Return the name of a folder as it is written; the present one and its parents have none."""
    name = Path(path).name
    return "" if name in ("", "..") else name


def _joined(*parts: str) -> str:
    """Join what there is of the parts of a name; a dot stands for the working directory."""
    return "/".join(part for part in parts if part not in ("", "."))


def _refuse(error: OSError) -> None:
    raise Unreadable(
        f"input folder {as_named(str(error.filename))} cannot be read: {error.strerror}"
    ) from None
