"""The files that a task left below ``out/``, read without trust in anything that it made there."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from fog_compute.errors import FogError
from fog_compute.tasks.folder import flaw_of
from fog_compute.tasks.result import OutputFile
from fog_compute.text import one_line
from fog_compute.units import format_bytes

__all__ = ["OutputRefused", "read_outputs"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # whatever it was replaced by


class OutputRefused(FogError):
    """What the task left cannot come back as it is."""


def read_outputs(folder: Path, limit: int) -> dict[str, bytes]:
    """Return the regular files below ``folder`` by their paths, in the order of the paths' bytes.

    Symbolic links are left out, and followed nowhere.

    Raises:
        OutputRefused: they count more than ``limit`` bytes, or one has no plain name.
        OSError: they cannot be read.
    """
    try:
        root = os.open(folder, _FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return {}  # the task removed it
    gathered = _Gathered(limit)
    gathered.add_folder(root, "")
    return {path: gathered.files[path] for path in sorted(gathered.files, key=str.encode)}


class _Gathered:
    """Files by path, and what is left of the limit."""

    def __init__(self, limit: int) -> None:
        self.files: dict[str, bytes] = {}
        self._limit = limit
        self._left = limit

    def add_folder(self, folder: int, prefix: str) -> None:
        """Add the files of a folder, which is closed; the scratch's limit bounds the depth."""
        try:
            with os.scandir(folder) as listing:
                for entry in listing:
                    path = prefix + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        nested = os.open(entry.name, _FOLDER, dir_fd=folder)
                        self.add_folder(nested, f"{path}/")
                    elif entry.is_file(follow_symlinks=False):
                        self._add_file(os.open(entry.name, _FILE, dir_fd=folder), path)
        finally:
            os.close(folder)

    def _add_file(self, descriptor: int, path: str) -> None:
        with open(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            flaw = flaw_of(path) if stat.S_ISREG(status.st_mode) else "it is no file any more"
            if flaw:
                raise OutputRefused(
                    f"the file {one_line(repr(path), 80)} below out/ cannot come back: {flaw}"
                )
            self._left -= OutputFile(path, status.st_size).counts
            if self._left < 0:
                raise OutputRefused(
                    "the module left more below out/ than its limit of"
                    f" {format_bytes(self._limit)}, names included: `limits.output_bytes` allows"
                    " more"
                )
            data = bytearray()
            while len(data) < status.st_size and (piece := file.read(status.st_size - len(data))):
                data += piece
            self.files[path] = bytes(data)
