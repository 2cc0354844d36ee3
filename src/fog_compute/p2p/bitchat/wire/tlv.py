"""Fields as a tag, a length and a value, as most payloads are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason

__all__ = ["MAX_FIELDS", "field", "fields", "text", "utf8"]

MAX_FIELDS: Final = 64
"""Fields of one payload that are read; the longest list that any program sends has ten."""


def field(tag: int, value: bytes, width: int) -> bytes:
    """One field.

    Args:
        tag: what it is.
        value: its value.
        width: bytes of its length, 1, 2 or 4.

    Raises:
        Malformed: the value is too long for that.
    """
    if len(value) >> 8 * width:
        raise Malformed(Reason.TOO_LONG, f"field {tag:02x} is too long: {len(value)} bytes")
    return b"%c%b%b" % (tag, len(value).to_bytes(width, "big"), value)


def fields(data: bytes, width: int, what: str) -> Iterator[tuple[int, bytes]]:
    """The fields, tag and value, in their order; who asks passes over tags that it does not know.

    Args:
        data: nothing but fields.
        width: bytes of their lengths.
        what: what they belong to, for the error.

    Raises:
        Malformed: a field ends early, or there are too many.
    """
    at, size, count = 0, len(data), 0
    while at < size:
        count += 1
        if count > MAX_FIELDS:
            raise Malformed(Reason.TOO_LONG, f"{what} has more than {MAX_FIELDS} fields")
        start = at + 1 + width
        # Of a length that is cut short the end is behind the data all the same.
        end = start + int.from_bytes(data[at + 1 : start], "big")
        if end > size:
            raise Malformed(Reason.TRUNCATED, f"{what} ends within a field")
        yield data[at], data[start:end]
        at = end


def text(value: bytes, what: str) -> str:
    """UTF-8 as text.

    Raises:
        Malformed: it is not UTF-8.
    """
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Malformed(Reason.TEXT, f"{what} is not UTF-8") from None


def utf8(value: str, what: str) -> bytes:
    """Text as UTF-8.

    Raises:
        Malformed: it is none, as half of a surrogate pair is not.
    """
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise Malformed(Reason.TEXT, f"{what} has no UTF-8") from None
