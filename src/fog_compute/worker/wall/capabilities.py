"""Root's powers, one by one: a runner keeps none of them, in no set."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fog_compute.worker.wall.calls import prctl, syscall

__all__ = ["drop"]

_CAPBSET_READ: Final = 23
_CAPBSET_DROP: Final = 24
_SET_SECUREBITS: Final = 28
_AMBIENT: Final = 47
_AMBIENT_CLEAR_ALL: Final = 4
_LOCKED: Final = 0b1110_1111
"""User 0 has no powers for being that, changing users changes none, ambient ones cannot be raised,
none are kept over a change of users, and all that stays so (the odd bits are the locks)."""

_VERSION: Final = 0x20080522
_HEADER: Final = struct.Struct("=Ii")
_SETS: Final = struct.Struct("=6I")  # effective, permitted, inheritable; the low halves, the high


def drop(folders: Iterable[Path]) -> None:
    """Give up all capabilities for good, unless ``folders`` could no longer be used without them.

    Raises:
        OSError: they were not given up.
    """
    before = _held()
    _set(_SETS.pack(0, *before[1:3], 0, *before[4:6]))
    for folder in folders:
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            _set(_SETS.pack(*before))
            raise OSError(errno.EACCES, f"{folder} can be used only by overriding its permissions")
    _set(_SETS.pack(*before))
    for capability in range(64):
        try:
            if prctl(_CAPBSET_READ, capability):
                prctl(_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno != errno.EINVAL:  # beyond the last one
                break
    with contextlib.suppress(OSError):  # who has none cannot change these, and need not
        prctl(_AMBIENT, _AMBIENT_CLEAR_ALL)
    with contextlib.suppress(OSError):
        prctl(_SET_SECUREBITS, _LOCKED)
    _set(_SETS.pack(0, 0, 0, 0, 0, 0))
    if any(_held()):
        raise OSError(errno.EPERM, "capabilities are left")


def _held() -> tuple[int, ...]:
    sets = ctypes.create_string_buffer(_SETS.size)
    syscall("capget", _header(), ctypes.cast(sets, ctypes.c_void_p))
    return _SETS.unpack(sets.raw)


def _set(sets: bytes) -> None:
    syscall("capset", _header(), ctypes.cast(ctypes.create_string_buffer(sets), ctypes.c_void_p))


def _header() -> ctypes.c_void_p:
    buffer = ctypes.create_string_buffer(_HEADER.pack(_VERSION, 0))
    return ctypes.cast(buffer, ctypes.c_void_p)
