"""Writing files that a task left into a folder: whole ones, nowhere else, over nothing.

The names come from whoever ran the task. They are plain paths, and yet each folder on the way is
opened without following links, so that nothing that stands there already leads elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fog_compute.errors import FolderUnusable
from fog_compute.tasks.folder import is_plain_path
from fog_compute.text import as_named

__all__ = ["AlreadyThere", "NotWritten", "OutputFolder"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EMLINK)  # a file system without hard links

Fill = Callable[[Callable[[bytes], object]], None]
"""Given where to put bytes, puts all of a file there."""


class NotWritten(Exception):
    """Why one file could not be written, in a few words."""


class AlreadyThere(NotWritten):
    """There is a file of that name already."""

    def __init__(self) -> None:
        super().__init__("there is one already")


class OutputFolder:
    """A folder that files are written into, one by one."""

    def __init__(self, path: str, *, force: bool) -> None:
        """Open the folder, making it if need be; with ``force`` files in it may be replaced.

        Raises:
            FolderUnusable: it cannot be written to.
        """
        self._force: Final = force
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
            self._root: Final = os.open(path, _FOLDER)
        except OSError as error:
            raise FolderUnusable(
                f"the folder {as_named(path)} cannot be used: {error.strerror}"
            ) from None
        if not os.access(path, os.W_OK | os.X_OK):
            os.close(self._root)
            raise FolderUnusable(f"the folder {as_named(path)} cannot be written to")

    def __enter__(self) -> Self:
        """Return the folder itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the folder."""
        os.close(self._root)

    def write(self, path: str, fill: Fill) -> None:
        """Write one file, with all that ``fill`` puts into it or not at all.

        Raises:
            NotWritten: it stands there already, or the disk refuses.
        """
        with self.new(path) as put:
            fill(put)

    @contextlib.contextmanager
    def new(self, path: str) -> Iterator[Callable[[bytes], object]]:
        """Hold where to put the bytes of one file, which is there whole after the block.

        Raises:
            NotWritten: it stands there already, or the disk refuses.
        """
        if not is_plain_path(path):
            raise NotWritten("its name is not allowed")
        *folders, name = path.split("/")
        try:
            with self._folder(folders) as folder:
                if not self._force and _exists(folder, name):
                    raise AlreadyThere
                with self._written(folder, name) as put:
                    yield put
        except OSError as error:
            raise NotWritten(error.strerror or "it cannot be written") from None

    @contextlib.contextmanager
    def _written(self, folder: int, name: str) -> Iterator[Callable[[bytes], object]]:
        beside = f".fog-{os.urandom(8).hex()}"
        descriptor = os.open(beside, _NEW, 0o666, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file.write
            if self._force:
                os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                _give_name(folder, beside, name)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=folder)

    @contextlib.contextmanager
    def _folder(self, parts: list[str]) -> Iterator[int]:
        """Open a folder below, making what is not there; no link on the way is followed."""
        at = os.dup(self._root)
        try:
            for part in parts:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=at)
                try:
                    nested = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
                except OSError as error:
                    if error.errno in (errno.ENOTDIR, errno.ELOOP):
                        raise NotWritten(f"{as_named(part)} on the way is no folder") from None
                    raise
                os.close(at)
                at = nested
            yield at
        finally:
            os.close(at)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _give_name(folder: int, beside: str, name: str) -> None:
    """Name a file without replacing another, even one that has just come."""
    try:
        os.link(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        raise AlreadyThere from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if _exists(folder, name):
            raise AlreadyThere from None
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
