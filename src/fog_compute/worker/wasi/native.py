"""Calls of wasmtime's own WASI from the host's side.

Those functions find the memory they read and write among the exports of whoever calls them.  So a
small module of our own stands in between, with one page of memory, and calls them for us.  It is
instantiated in a task's store when the task first needs it; most never do.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Final

from wasmtime import Engine, Func, InstancePre, Linker, Memory, Module, Store, wat2wasm

from fog_compute.tasks.preview1 import NAMESPACE
from fog_compute.worker.wasi.abi import (
    DIRENT,
    FDSTAT,
    FILESTAT,
    SUCCESS,
    U32,
    address,
)

__all__ = ["PATH_MAX", "Native"]

PATH_MAX: Final = 4096

_ARGUMENTS: Final = 8  # eight bytes each; the errno comes back at 0, the function's number is at 4
_OUT: Final = 128
_PATHS: Final = (1024, 1024 + PATH_MAX)
_BUFFER: Final = 1024 + 2 * PATH_MAX
_PAGE: Final = 65_536
_HEAD: Final = struct.Struct("<II")

_FUNCTIONS: Final = {
    "fd_filestat_get": ("i32", "i32"),
    "fd_filestat_set_times": ("i32", "i64", "i64", "i32"),
    "fd_fdstat_get": ("i32", "i32"),
    "fd_tell": ("i32", "i32"),
    "fd_readdir": ("i32", "i32", "i32", "i64", "i32"),
    "path_filestat_get": ("i32", "i32", "i32", "i32", "i32"),
    "path_filestat_set_times": ("i32", "i32", "i32", "i32", "i64", "i64", "i32"),
    "path_open": ("i32", "i32", "i32", "i32", "i32", "i64", "i64", "i32", "i32"),
    "path_unlink_file": ("i32", "i32", "i32"),
    "path_remove_directory": ("i32", "i32", "i32"),
    "path_rename": ("i32", "i32", "i32", "i32", "i32", "i32"),
}
_NUMBERS: Final = {name: number for number, name in enumerate(_FUNCTIONS)}


def _text() -> str:
    """Return the module: ``call`` runs the function whose number and arguments lie in memory.

    It takes and gives nothing, because that is what wasmtime-py calls fastest.
    """
    imports = "".join(
        f'(import "{NAMESPACE}" "{name}" (func ${name} (param {" ".join(types)}) (result i32)))'
        for name, types in _FUNCTIONS.items()
    )
    cases = "".join(
        f"(if (i32.eq (i32.load (i32.const 4)) (i32.const {_NUMBERS[name]})) (then"
        f" (i32.store (i32.const 0) (call ${name} "
        + "".join(f"({kind}.load (i32.const {_ARGUMENTS + 8 * i}))" for i, kind in enumerate(types))
        + "))))"
        for name, types in _FUNCTIONS.items()
    )
    return f'(module {imports} (memory (export "memory") 1) (func (export "call") {cases}))'


class Native:
    """The functions, for one task after the other."""

    def __init__(self, engine: Engine, linker: Linker) -> None:
        """Take the functions from ``linker``, as they are there now."""
        self._linked: Final[InstancePre] = linker.instantiate_pre(
            Module(engine, bytes(wat2wasm(_text())))
        )
        self._store: Store | None = None
        self._call: Func | None = None
        self._base = 0

    def begin(self, store: Store) -> None:
        """Serve the task of ``store`` from now on."""
        self._store, self._call = store, None

    def end(self) -> None:
        """Let go of the task's store."""
        self._store = self._call = None

    def filestat(self, fd: int) -> tuple[int, bytes]:
        """Return the errno and the record of a descriptor."""
        errno = self._run("fd_filestat_get", fd, _OUT)
        return errno, self._out(FILESTAT.size)

    def fdstat(self, fd: int) -> tuple[int, int, int]:
        """Return the errno, the file type and the rights of a descriptor."""
        errno = self._run("fd_fdstat_get", fd, _OUT)
        filetype, _, rights, _ = FDSTAT.unpack(self._out(FDSTAT.size))
        return errno, filetype, rights

    def tell(self, fd: int) -> tuple[int, int]:
        """Return the errno and the position of a descriptor."""
        errno = self._run("fd_tell", fd, _OUT)
        return errno, int.from_bytes(self._out(8), "little")

    def path_filestat(self, fd: int, flags: int, path: bytes) -> tuple[int, bytes]:
        """Return the errno and the record of a path of at most `PATH_MAX` bytes."""
        errno = self._run("path_filestat_get", fd, flags, *self._path(0, path), _OUT)
        return errno, self._out(FILESTAT.size)

    def may_date(self, fd: int) -> int:
        """Return the errno of setting a descriptor's times, and set none."""
        return self._run("fd_filestat_set_times", fd, 0, 0, 0)

    def path_may_date(self, fd: int, flags: int, path: bytes) -> int:
        """Return the errno of setting the times of a path that is there, and set none."""
        return self._run("path_filestat_set_times", fd, flags, *self._path(0, path), 0, 0, 0)

    def open(
        self, fd: int, lookup: int, path: bytes, flags: int, rights: tuple[int, int], status: int
    ) -> tuple[int, int]:
        """Open a path; return the errno and the new descriptor."""
        where = self._path(0, path)
        errno = self._run("path_open", fd, lookup, *where, flags, *rights, status, _OUT)
        return errno, int.from_bytes(self._out(4), "little")

    def unlink(self, fd: int, path: bytes) -> int:
        """Remove a file and return the errno."""
        return self._run("path_unlink_file", fd, *self._path(0, path))

    def remove_directory(self, fd: int, path: bytes) -> int:
        """Remove a folder and return the errno."""
        return self._run("path_remove_directory", fd, *self._path(0, path))

    def rename(self, fd: int, path: bytes, new_fd: int, new_path: bytes) -> int:
        """Rename and return the errno."""
        old, new = self._path(0, path), self._path(1, new_path)
        return self._run("path_rename", fd, *old, new_fd, *new)

    def listing(self, fd: int) -> tuple[int, list[tuple[bytes, int, int]]]:
        """Return the errno and a folder's entries as the host gives them: name, inode, type."""
        entries: list[tuple[bytes, int, int]] = []
        cookie = 0
        while True:
            errno = self._run("fd_readdir", fd, _BUFFER, _PAGE - _BUFFER, cookie, _OUT)
            used = int.from_bytes(self._out(4), "little")
            if errno != SUCCESS:
                return errno, []
            data = ctypes.string_at(self._base + _BUFFER, used)
            at = 0
            while at + DIRENT.size <= used:
                following, inode, length, filetype = DIRENT.unpack_from(data, at)
                end = at + DIRENT.size + length
                if end > used:
                    break
                entries.append((data[at + DIRENT.size : end], inode, filetype))
                cookie, at = following, end
            if used < _PAGE - _BUFFER:
                return SUCCESS, entries

    def _path(self, place: int, path: bytes) -> tuple[int, int]:
        self._ready()
        ctypes.memmove(self._base + _PATHS[place], path, len(path))
        return _PATHS[place], len(path)

    def _out(self, length: int) -> bytes:
        return ctypes.string_at(self._base + _OUT, length)

    def _run(self, name: str, *arguments: int) -> int:
        """Call a function without taking the task's fuel for what is none of its instructions."""
        store, call = self._ready()
        words = struct.pack(f"<{len(arguments)}Q", *arguments)
        ctypes.memmove(self._base, _HEAD.pack(0, _NUMBERS[name]) + words, _ARGUMENTS + len(words))
        fuel = store.get_fuel()
        store.set_fuel(U32)
        try:
            call(store)
        finally:
            store.set_fuel(fuel)
        return int.from_bytes(ctypes.string_at(self._base, 4), "little")

    def _ready(self) -> tuple[Store, Func]:
        store, call = self._store, self._call
        if store is None:
            raise RuntimeError("no task has begun")
        if call is None:
            exports = self._linked.instantiate(store).exports(store)
            memory, found = exports["memory"], exports["call"]
            if not (isinstance(memory, Memory) and isinstance(found, Func)):
                raise RuntimeError("the module in between is not what it was built as")
            self._base = address(store, memory, 0, _PAGE)  # one page, which never moves
            self._call = call = found
        return store, call
