"""The part of WASI preview 1 that would differ from run to run, replaced by parts that do not.

Random numbers come from the task's seed, time is virtual, and what a guest learns about files
beside their content is the same on every host.  So the guest can neither measure its host nor hold
a slot asleep.  Everything else is wasmtime's own WASI; docs/spec/task.md has the table of all
functions.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from typing import Final

from wasmtime import Caller, Engine, FuncType, Linker, Store, ValType

from fog_compute.tasks.preview1 import NAMESPACE, PREVIEW1
from fog_compute.worker.wasi.abi import EFAULT, SUCCESS, U32, OutOfBounds, address
from fog_compute.worker.wasi.clocks import Clocks
from fog_compute.worker.wasi.files import Files
from fog_compute.worker.wasi.native import Native
from fog_compute.worker.wasi.poll import Poll

__all__ = ["REPLACED", "DeterministicWasi", "GuestExit"]

DRAW_BYTES: Final = 1 << 20
"""Random bytes that are made at once; a guest may ask for its whole memory."""

REPLACED: Final = {
    name: PREVIEW1[name]
    for name in (
        "clock_res_get",
        "clock_time_get",
        "fd_advise",
        "fd_datasync",
        "fd_filestat_get",
        "fd_filestat_set_times",
        "fd_readdir",
        "fd_sync",
        "path_filestat_get",
        "path_filestat_set_times",
        "path_open",
        "path_remove_directory",
        "path_rename",
        "path_unlink_file",
        "poll_oneoff",
        "random_get",
    )
}
"""The functions that are ours and answer with an errno, with their parameters: i32, I64."""


class GuestExit(BaseException):
    """The guest called ``proc_exit``."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class DeterministicWasi:
    """Defines the replacements in a linker; `begin` sets them up for one task."""

    def __init__(self, engine: Engine, linker: Linker) -> None:
        """Replace functions in ``linker``, which has WASI and allows shadowing."""
        self._native = Native(engine, linker)  # before anything is replaced
        self._clocks = Clocks()
        self._files = Files(self._native, self._clocks)
        self._poll = Poll(self._native, self._clocks)
        self._seed = b""
        self._drawn = 0
        self._define(linker)

    def begin(self, seed: bytes, store: Store) -> None:
        """Start the task of ``store``: its randomness from ``seed``, its time from zero."""
        self._seed = seed
        self._drawn = 0
        self._clocks.begin()
        self._files.begin()
        self._native.begin(store)

    def end(self) -> None:
        """Keep nothing of the task, its store above all."""
        self._seed = b""
        self._files.begin()
        self._native.end()

    def _define(self, linker: Linker) -> None:
        own: dict[str, Callable[..., int]] = {
            "fd_datasync": self._files.fd_sync,
            "random_get": self._random_get,
        }
        kinds = {"i": ValType.i32(), "I": ValType.i64()}
        for name, parameters in REPLACED.items():
            function = own.get(name)
            for part in (self._clocks, self._files, self._poll):
                function = function or getattr(part, name, None)
            if function is None:
                raise LookupError(f"nothing replaces {name}")
            linker.define_func(
                NAMESPACE,
                name,
                FuncType([kinds[kind] for kind in parameters], [ValType.i32()]),
                function,
                access_caller=True,
            )
        linker.define_func(NAMESPACE, "proc_exit", FuncType([ValType.i32()], []), _proc_exit)

    def _random_get(self, caller: Caller, pointer: int, length: int) -> int:
        length &= U32
        try:
            where = address(caller, caller.get("memory"), pointer, length)
        except OutOfBounds:
            return EFAULT
        for begin in range(0, length, DRAW_BYTES):
            size = min(DRAW_BYTES, length - begin)
            ctypes.memmove(where + begin, self._draw(size), size)
        return SUCCESS

    def _draw(self, length: int) -> bytes:
        material = self._seed + self._drawn.to_bytes(8, "big")
        self._drawn += 1
        return hashlib.shake_256(material).digest(length)


def _proc_exit(code: int) -> None:
    raise GuestExit(code)
