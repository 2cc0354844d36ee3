"""Folders of tasks: removing what a guest may have filled on purpose to be hard to remove."""

from __future__ import annotations

import contextlib
import enum
import itertools
import os
import tempfile
from pathlib import Path
from typing import Final

from fog_compute.tasks.folder import OUT, TMP

_OWN: Final = (OUT, TMP)
_REMOVED: Final = " (deleted)"  # how the kernel ends the name of an open file that has none


class Excess(enum.Enum):
    """Of what a folder holds more than it may."""

    BYTES = enum.auto()
    FILES = enum.auto()
    DEPTH = enum.auto()


def remove_tree(folder: Path) -> None:
    """Delete a folder, however deep; what does not exist or may not be deleted is left out."""
    with contextlib.suppress(OSError):
        empty_folder(folder)
        folder.rmdir()


def empty_folder(folder: Path) -> None:
    """Delete what is in a folder, however deep, or raise `OSError`.

    Nested folders are first moved up, so neither the stack nor a path ever grows with the depth.
    """
    numbers = itertools.count()
    while folders := _delete_files(folder):
        for nested in folders:
            for deeper in _delete_files(nested):
                _move_up(deeper, folder, numbers)
            nested.rmdir()


def lay_out(work: Path) -> None:
    """Make a task's working directory as it is without inputs, or raise `OSError`."""
    for needed in (work, *(work / name for name in _OWN)):
        needed.mkdir(parents=True, exist_ok=True, mode=0o700)


def is_laid_out(work: Path) -> bool:
    """Say whether a working directory is as `lay_out` makes it, and nothing more."""
    return _some(work) == dict.fromkeys(_OWN, True) and not any(_some(work / n) for n in _OWN)


def is_empty(folder: Path) -> bool:
    """Say whether nothing is in a folder; one that does not exist is empty."""
    return not _some(folder)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is nobody else's, and the folders that it needs, or raise `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("xb") as file:
        file.write(data)


def _some(folder: Path) -> dict[str, bool]:
    """Return what is in a folder, three names at most, and whether each is a folder itself."""
    try:
        with os.scandir(folder) as entries:
            return {e.name: e.is_dir(follow_symlinks=False) for e in itertools.islice(entries, 3)}
    except (FileNotFoundError, NotADirectoryError):
        return {}


def free_bytes(folder: Path) -> int:
    """Return how much can be written to the folder's disk, or raise `OSError`."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def nameless_file(folder: Path) -> int:
    """Return the descriptor of a file in memory, or in ``folder`` where that is refused.

    Raises:
        OSError: there is room for neither.
    """
    try:
        return os.memfd_create("guest")
    except OSError:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.dup(file.fileno())


def excess_of(folder: str, total_bytes: int, entries: int, depth: int) -> Excess | None:
    """Say of what a folder that a guest may be changing holds more than this; None of nothing.

    Raises:
        OSError: it cannot be looked at.
    """
    try:
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _Tally(total_bytes, entries).over(root, depth)


def nameless_bytes(process: int | str, folder: str) -> int:
    """Return how much a process keeps in files of a folder that it has open and were removed.

    They take room until they are closed, and no listing shows them.
    """
    sizes: dict[int, int] = {}
    descriptors = f"/proc/{process}/fd"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for name in os.listdir(descriptors):  # noqa: PTH208  # an open listing would be one more
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                target = os.readlink(f"{descriptors}/{name}")  # noqa: PTH115  # names no file
                if target.startswith(f"{folder}/") and target.endswith(_REMOVED):
                    status = os.stat(f"{descriptors}/{name}")  # noqa: PTH116
                    if status.st_nlink == 0:
                        sizes[status.st_ino] = status.st_size
    return sum(sizes.values())


class _Tally:
    """What is left of the limits, while a tree is walked by descriptors: no path is too long."""

    def __init__(self, total_bytes: int, entries: int) -> None:
        self._bytes = total_bytes
        self._entries = entries

    def over(self, folder: int, depth: int) -> Excess | None:
        """Count what is in a folder, which is closed, and say of what that is too much."""
        try:
            if depth < 0:
                return Excess.DEPTH
            with os.scandir(folder) as listing:
                found = (self._entry_over(folder, one, depth) for one in listing)
                return next((excess for excess in found if excess is not None), None)
        finally:
            os.close(folder)

    def _entry_over(self, folder: int, entry: os.DirEntry[str], depth: int) -> Excess | None:
        self._entries -= 1
        if self._entries < 0:
            return Excess.FILES
        try:
            if entry.is_dir(follow_symlinks=False):
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                return self.over(os.open(entry.name, flags, dir_fd=folder), depth - 1)
            self._bytes -= entry.stat(follow_symlinks=False).st_size
        except (FileNotFoundError, NotADirectoryError):
            pass  # the guest removed or replaced it meanwhile
        return Excess.BYTES if self._bytes < 0 else None


def _delete_files(folder: Path) -> list[Path]:
    """Delete what is no folder; return the folders."""
    nested = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                nested.append(Path(entry.path))
            else:
                Path(entry.path).unlink()
    return nested


def _move_up(nested: Path, folder: Path, numbers: itertools.count[int]) -> None:
    while (target := folder / f".moved-{next(numbers)}").exists():
        pass
    nested.rename(target)
