"""Compiled modules on disk, so that a module is compiled once on a machine."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import resource
import stat
from pathlib import Path
from typing import Final

from wasmtime import Engine, Module, WasmtimeError

CACHE_BYTES: Final = 1024 * 1024 * 1024
_WASMTIME: Final = importlib.metadata.version("wasmtime")  # looked up before a runner's walls stand


class CompiledCache:
    """Compiled modules in a folder that only this user can write: the only ones ever read back."""

    def __init__(self, folder: Path, profile: str) -> None:
        """Use ``folder`` if it is only ours; ``profile`` names how modules are compiled."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.lstat()
        self._usable = (
            stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.getuid()
            and stat.S_IMODE(status.st_mode) == 0o700
        )
        self._folder = folder
        self._suffix = f"\0{_WASMTIME}\0{profile}".encode()

    def load(self, engine: Engine, module_id: str) -> Module | None:
        """Return a compiled module, or None if there is none that fits this engine."""
        if not self._usable:
            return None
        path = self._path(module_id)
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
                return None
            module = Module.deserialize_file(engine, str(path))
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, WasmtimeError):
            path.unlink(missing_ok=True)
            return None
        return module

    def save(self, module_id: str, module: Module) -> None:
        """Keep a compiled module; a full disk only means that it is compiled again."""
        data = module.serialize()
        largest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if not self._usable or 0 <= largest < len(data):  # beyond it, the kernel ends who writes
            return
        temporary = self._folder / f".new-{os.urandom(8).hex()}"
        with contextlib.suppress(OSError):
            try:
                with temporary.open("xb") as file:
                    file.write(data)
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
