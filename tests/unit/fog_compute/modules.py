"""The shortest module that is a command, and longer ones."""

from __future__ import annotations

from typing import Final

COMMAND: Final = (
    b"\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0"  # a _start that does nothing
    b"\7\x0a\1\6_start\0\0\x0a\4\1\2\0\x0b"
)


def command_of(size: int) -> bytes:
    """A command of so many bytes, at least 41: the rest is a section without a meaning."""
    rest = size - len(COMMAND) - 6
    length = bytes(rest >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)) + bytes([rest >> 28])
    return COMMAND + b"\0" + length + bytes(rest)
