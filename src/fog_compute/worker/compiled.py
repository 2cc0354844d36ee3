"""Compiled modules on disk, so that a module is compiled once on a machine.

A runner reads them, and its slot writes them: what a runner leaves is kept under the name of the
module that it was asked to compile, and under no other.  So one that a module broke out into leaves
nothing that anybody else's module would run.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import stat
from pathlib import Path
from typing import Final

__all__ = ["CACHE_BYTES", "CompiledCache"]

CACHE_BYTES: Final = 1024 * 1024 * 1024
_WASMTIME: Final = importlib.metadata.version("wasmtime")  # looked up before a runner's walls stand
_PIECE: Final = 1 << 24


class CompiledCache:
    """Compiled modules in a folder that only this user can write: the only ones ever read back."""

    def __init__(self, folder: Path, profile: str) -> None:
        """Use ``folder``, if it is only ours; ``profile`` names how modules are compiled."""
        try:
            status = folder.lstat()
        except OSError:
            self._usable = False
        else:
            self._usable = (
                stat.S_ISDIR(status.st_mode)
                and status.st_uid == os.getuid()
                and stat.S_IMODE(status.st_mode) == 0o700
            )
        self._folder = folder
        self._suffix = f"\0{_WASMTIME}\0{profile}".encode()

    def find(self, module_id: str) -> Path | None:
        """Return the file of a compiled module, if it is there and this user's."""
        path = self._path(module_id)
        try:
            status = path.lstat()
        except OSError:
            return None
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid()
        return path if self._usable and ours else None

    def note_use(self, module_id: str) -> None:
        """Keep a module for longer than those that nobody asks for."""
        with contextlib.suppress(OSError):
            os.utime(self._path(module_id), follow_symlinks=False)

    def keep(self, module_id: str, source: int, size: int) -> None:
        """Keep what lies in an open file; a full disk only means that it is compiled again."""
        if not self._usable or not 0 < size <= CACHE_BYTES:
            return
        temporary = self._folder / f".new-{os.urandom(8).hex()}"
        with contextlib.suppress(OSError):
            try:
                with temporary.open("xb") as file:
                    os.lseek(source, 0, os.SEEK_SET)
                    left = size
                    while left and (
                        sent := os.sendfile(file.fileno(), source, None, min(left, _PIECE))
                    ):
                        left -= sent
                if left == 0:
                    temporary.replace(self._path(module_id))
            finally:
                temporary.unlink(missing_ok=True)
            self._prune()

    def _path(self, module_id: str) -> Path:
        name = hashlib.sha256(module_id.encode() + self._suffix).hexdigest()
        return self._folder / f"{name}.cwasm"

    def _prune(self) -> None:
        files = sorted(
            ((p.stat().st_mtime, p.stat().st_size, p) for p in self._folder.glob("*.cwasm")),
            reverse=True,
        )
        total = 0
        for _, size, path in files:
            total += size
            if total > CACHE_BYTES:
                path.unlink(missing_ok=True)
