"""A file, as the payload of a packet or inside a Noise session.

Fields of tag, length and value; tags that are not known are passed over:

====  ==========  =================================================================================
tag   length      value
====  ==========  =================================================================================
01    2 bytes     name, UTF-8
02    2 bytes     size in bytes, 4 bytes (8 are read as well)
03    2 bytes     media type, UTF-8
04    4 bytes     content; where it comes in several fields, they follow one another
====  ==========  =================================================================================

A file has 1 byte to 1 MiB. Android's app reads none without a name. The app also reads a length of
2 bytes before the content, as older programs sent it; with that a file that was cut short may pass
for another one, so we do not.

Source: ``Protocols/BitchatFilePacket.swift`` of the app.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.tlv import MAX_FIELDS, field, text, utf8

__all__ = ["MAX_FILE", "File"]

MAX_FILE: Final = 1 << 20
MAX_LEAF: Final = 100

NAME: Final = 0x01
SIZE: Final = 0x02
MEDIA_TYPE: Final = 0x03
CONTENT: Final = 0x04


class File(msgspec.Struct, frozen=True):
    """A file with what its sender says about it.

    Attributes:
        content: 1 byte to 1 MiB.
        name: as its sender named it; see :attr:`leaf` before it meets a folder.
        media_type: as its sender says.
    """

    content: bytes
    name: str | None = None
    media_type: str | None = None

    @property
    def leaf(self) -> str:
        """A name without folders or control characters, of up to 100 bytes, never empty."""
        last = (self.name or "").replace("\\", "/").rsplit("/", 1)[-1]
        kept = "".join(one for one in last if one.isprintable()).strip(" .")
        return kept.encode()[:MAX_LEAF].decode(errors="ignore") or "file"

    def encode(self) -> bytes:
        """Its bytes.

        Raises:
            Malformed: it is empty or too large, or a text is longer than 65,535 bytes.
        """
        if not 0 < len(self.content) <= MAX_FILE:
            raise Malformed(Reason.TOO_LONG, f"a file has 1 to {MAX_FILE} bytes")
        parts = [
            field(SIZE, len(self.content).to_bytes(4, "big"), 2),
            field(CONTENT, self.content, 4),
        ]
        if self.media_type is not None:
            parts.insert(1, field(MEDIA_TYPE, utf8(self.media_type, "a media type"), 2))
        if self.name is not None:
            parts.insert(0, field(NAME, utf8(self.name, "the name of a file"), 2))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> File:
        """Read a file.

        Raises:
            Malformed: it is none, or larger than 1 MiB.
        """
        return cls.read(data)[0]

    @classmethod
    def read(cls, data: bytes) -> tuple[File, dict[int, bytes]]:
        """Read a file, and the fields beside it that are not known here, by their tags.

        Raises:
            Malformed: it is none, or larger than 1 MiB.
        """
        at, size, count = 0, len(data), 0
        name: str | None = None
        media_type: str | None = None
        pieces: list[bytes] = []
        others: dict[int, bytes] = {}
        while at < size:
            count += 1
            if count > MAX_FIELDS:
                raise Malformed(Reason.TOO_LONG, f"a file has more than {MAX_FIELDS} fields")
            tag = data[at]
            start = at + (5 if tag == CONTENT else 3)
            end = start + int.from_bytes(data[at + 1 : start], "big")
            if end > size:
                raise Malformed(Reason.TRUNCATED, "a file ends within a field")
            value = data[start:end]
            at = end
            if tag == NAME:
                name = text(value, "the name of a file")
            elif tag == MEDIA_TYPE:
                media_type = text(value, "the media type of a file")
            elif tag == SIZE and len(value) in (4, 8):
                if int.from_bytes(value, "big") > MAX_FILE:
                    raise Malformed(Reason.TOO_LONG, "a file claims more than 1 MiB")
            elif tag == CONTENT:
                pieces.append(value)
            elif tag != SIZE:
                others.setdefault(tag, value)
        content = b"".join(pieces)
        if not content:
            raise Malformed(Reason.MISSING, "a file has no content")
        if len(content) > MAX_FILE:
            raise Malformed(Reason.TOO_LONG, "a file has more than 1 MiB")
        return cls(content, name, media_type), others
