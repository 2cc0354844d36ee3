"""Landlock: a process gives up all files but those below some folders, the network, and signals.

`Documentation/userspace-api/landlock.rst` of the kernel has the interface; the version of the
kernel (the ABI) says what it knows.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fog_compute.worker.wall.calls import syscall
from fog_compute.worker.wall.rooms import NULL, OWN, Rooms

__all__ = ["LEAST", "restrict", "version"]

LEAST: Final = 2
"""The first version under which a guest can rename from one folder into another."""

_NETWORK_FROM: Final = 4
_DEVICES_FROM: Final = 5
_SCOPES_FROM: Final = 6

_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_BASIC: Final = (1 << 13) - 1
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15
_TRUNCATE_FROM: Final = 3

_MAKES: Final = sum(1 << bit for bit in (4, 5, 7, 8, 12))
"""Removing folders and files, making folders, files and symbolic links; nothing else is made."""

_READS: Final = _READ_FILE | _READ_DIR
_CHANGES: Final = _READS | _WRITE_FILE | _MAKES | _REFER | _TRUNCATE
_CONNECTIONS: Final = 0b11  # TCP: bind, connect
_SCOPES: Final = 0b11  # abstract Unix sockets, signals

_RULESET: Final = struct.Struct("=QQQ")
_BELOW: Final = struct.Struct("=Qi")
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1


def version() -> int:
    """Return the version of Landlock that this kernel has.

    Raises:
        OSError: it has none, or it is switched off.
    """
    return syscall("landlock_create_ruleset", None, 0, _ASK_VERSION)


def restrict(rooms: Rooms) -> int:
    """Leave this thread, and all that it starts, the rooms; return the version that did it.

    Raises:
        OSError: the kernel has no Landlock, or one that is too old.
    """
    found = version()
    if found < LEAST:
        raise OSError(0, f"this kernel has version {found}, of which {LEAST} is needed")
    handled = _BASIC | _REFER
    handled |= _TRUNCATE if found >= _TRUNCATE_FROM else 0
    handled |= _IOCTL_DEV if found >= _DEVICES_FROM else 0
    attributes = _RULESET.pack(
        handled,
        _CONNECTIONS if found >= _NETWORK_FROM else 0,
        _SCOPES if found >= _SCOPES_FROM else 0,
    )
    fields = 1 + (found >= _NETWORK_FROM) + (found >= _SCOPES_FROM)
    ruleset = syscall(
        "landlock_create_ruleset", _address(ctypes.create_string_buffer(attributes)), 8 * fields, 0
    )
    try:
        _allow(ruleset, rooms.changed, _CHANGES & handled)
        _allow(ruleset, (*rooms.read, OWN), _READS)
        _allow(ruleset, (NULL,), (_READ_FILE | _WRITE_FILE | _TRUNCATE) & handled)
        syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
    return found


def _allow(ruleset: int, paths: Iterable[Path], rights: int) -> None:
    for path in paths:
        try:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:  # no /proc here, say
            continue
        try:
            below = ctypes.create_string_buffer(_BELOW.pack(rights, folder))
            syscall("landlock_add_rule", ruleset, _PATH_BENEATH, _address(below), 0)
        finally:
            if path != OWN:  # a process's folder is made anew once nobody has it open
                os.close(folder)


def _address(buffer: ctypes.Array[ctypes.c_char]) -> ctypes.c_void_p:
    return ctypes.cast(buffer, ctypes.c_void_p)
