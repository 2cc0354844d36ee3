"""Numbers and layouts of WASI preview 1, as far as they are used here, and the guest's memory."""

from __future__ import annotations

import ctypes
import struct
from typing import Final

from wasmtime import Caller, Memory, Store

__all__ = [
    "DIRECTORY",
    "DIRENT",
    "EBADF",
    "EEXIST",
    "EFAULT",
    "EINVAL",
    "EMFILE",
    "ENAMETOOLONG",
    "ENOTEMPTY",
    "FDSTAT",
    "FILESTAT",
    "LOOK_NS",
    "REGULAR_FILE",
    "START_NS",
    "SUCCESS",
    "U32",
    "U64",
    "OutOfBounds",
    "address",
    "read",
    "store",
]

SUCCESS: Final = 0
EBADF: Final = 8
EEXIST: Final = 20
EFAULT: Final = 21
EINVAL: Final = 28
EMFILE: Final = 33
ENAMETOOLONG: Final = 37
ENOTEMPTY: Final = 55

START_NS: Final = 946_684_800_000_000_000  # 2000-01-01T00:00:00Z
LOOK_NS: Final = 1_000

U32: Final = 0xFFFF_FFFF
U64: Final = 0xFFFF_FFFF_FFFF_FFFF

DIRECTORY: Final = 3
REGULAR_FILE: Final = 4

FILESTAT: Final = struct.Struct("<QQB7xQQQQQ")  # dev ino filetype | nlink size atim mtim ctim
DIRENT: Final = struct.Struct("<QQIB3x")  # next ino name_length filetype
FDSTAT: Final = struct.Struct("<BxHxxxxQQ")  # filetype flags | rights, inherited rights


class OutOfBounds(Exception):
    """The guest gave a pointer outside of its memory."""


def address(owner: Caller | Store, memory: object, pointer: int, length: int) -> int:
    """Return the host address of a range of a memory, checked, or raise `OutOfBounds`."""
    pointer &= U32
    if not isinstance(memory, Memory) or pointer + length > memory.data_len(owner):
        raise OutOfBounds
    base = ctypes.cast(memory.data_ptr(owner), ctypes.c_void_p).value
    if base is None:
        raise OutOfBounds
    return base + pointer


def read(caller: Caller, pointer: int, length: int) -> bytes:
    """Copy bytes of the guest, or raise `OutOfBounds`."""
    length &= U32
    return ctypes.string_at(address(caller, caller.get("memory"), pointer, length), length)


def store(caller: Caller, pointer: int, data: bytes) -> int:
    """Copy bytes to the guest and return an errno."""
    try:
        where = address(caller, caller.get("memory"), pointer, len(data))
    except OutOfBounds:
        return EFAULT
    ctypes.memmove(where, data, len(data))
    return SUCCESS
