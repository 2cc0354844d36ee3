"""The start function of a module, made one that is called like any other.

Whether filling a memory from a module's data burns fuel depends on whether the host can map the
data instead.  So making an instance is free here, and what is counted begins with the module's own
code.  A start function is that, too, but runs while the instance is made: its section is taken out
of the module and it is exported, for the sandbox to call.

Format: WebAssembly core specification 3.0, chapter 5.5.
"""

from __future__ import annotations

from typing import Final

__all__ = ["EARLY", "with_early_start"]

EARLY: Final = "\0start"
"""The name of the export; no compiler makes one like it."""

_HEAD_BYTES: Final = 8
_EXPORT: Final = 7
_START: Final = 8
_FUNCTION: Final = b"\0"
_LONGEST: Final = 5  # bytes of a number of 32 bits
_MORE: Final = 0x80


def with_early_start(module: bytes) -> bytes:
    """Return the module with its start function exported instead, if it has one.

    What cannot be read comes back as it is: it is no module, and whoever compiles it says so.
    """
    try:
        sections = _sections(module)
        starts = [module[begin:end] for kind, begin, end in sections if kind == _START]
        if len(starts) != 1 or _number(starts[0], 0)[1] != len(starts[0]):
            return module
        rewritten = [module[:_HEAD_BYTES]]
        for kind, begin, end in sections:
            content = module[begin:end]
            if kind == _EXPORT:
                count, at = _number(content, 0)
                name = EARLY.encode()
                early = _encoded(len(name)) + name + _FUNCTION + starts[0]
                content = _encoded(count + 1) + content[at:] + early
            if kind != _START:
                rewritten += [bytes([kind]), _encoded(len(content)), content]
    except ValueError:
        return module
    return b"".join(rewritten)


def _sections(module: bytes) -> list[tuple[int, int, int]]:
    """Return the kind of each section, and where its content begins and ends."""
    found, at = [], _HEAD_BYTES
    while at < len(module):
        length, begin = _number(module, at + 1)
        if begin + length > len(module):
            raise ValueError("a section is longer than the module")
        found.append((module[at], begin, begin + length))
        at = begin + length
    return found


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of 32 bits (LEB128), and where it ends."""
    value = 0
    for place in range(_LONGEST):
        if at + place >= len(data):
            break
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < _MORE:
            return value, at + place + 1
    raise ValueError("a number does not end")


def _encoded(number: int) -> bytes:
    out = bytearray()
    while number >= _MORE:
        out.append(number & 0x7F | _MORE)
        number >>= 7
    return bytes([*out, number])
