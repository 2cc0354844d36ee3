"""The envelope that a courier carries: a sealed message, and a tag that names its recipient.

Fields of tag, length (2 bytes) and value; tags that are not known are passed over:

====  ==============  =============================================================================
tag   bytes           value
====  ==============  =============================================================================
01    16              recipient's tag of the day
02    8               when it is to be thrown away, ms since 1970
03    1 to 16,384     ciphertext: Noise X, to the recipient's key or to one of its prekeys
04    1               copies that may still be made of it, up to 8; absent where it is 1
05    4               the prekey's id, where it is sealed to one
====  ==============  =============================================================================

The tag is HMAC-SHA256 under the recipient's Noise public key, of ``bitchat-courier-tag-v1`` and the
day since 1970, its first 16 bytes: who knows the key finds its envelopes, and others cannot tell
that those of two days are for one person.

Source: ``BitFoundation/CourierEnvelope.swift`` of the app.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import msgspec

from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.tlv import field, fields

__all__ = [
    "MAX_CIPHERTEXT",
    "MAX_COPIES",
    "MAX_LIFE_MS",
    "TAG_BYTES",
    "CourierEnvelope",
    "day_of",
    "recipient_tag",
    "tags_around",
]

TAG_BYTES: Final = 16
MAX_CIPHERTEXT: Final = 16 * 1024
MAX_COPIES: Final = 8
DAY_MS: Final = 86_400_000
MAX_LIFE_MS: Final = DAY_MS
"""For how long one may be carried."""
CONTEXT: Final = b"bitchat-courier-tag-v1"

TAG: Final = 0x01
EXPIRY: Final = 0x02
CIPHERTEXT: Final = 0x03
COPIES: Final = 0x04
PREKEY: Final = 0x05
LENGTHS: Final = {TAG: TAG_BYTES, EXPIRY: 8, COPIES: 1, PREKEY: 4}


class CourierEnvelope(msgspec.Struct, frozen=True):
    """A sealed message on its way by hand.

    Attributes:
        tag: 16 bytes that its recipient recognises.
        expires_ms: when it is thrown away.
        ciphertext: what is in it.
        copies: how many copies its holder may give to other couriers; 1 is none.
        prekey: the id of the prekey that it is sealed to, if it is to one.
    """

    tag: bytes
    expires_ms: int
    ciphertext: bytes
    copies: int = 1
    prekey: int | None = None

    def encode(self) -> bytes:
        """The payload of a packet of the kind ``COURIER_ENVELOPE``.

        Raises:
            Malformed: something has another size than it may have.
        """
        if len(self.tag) != TAG_BYTES or not 0 <= self.expires_ms < 1 << 64:
            raise Malformed(Reason.FIELD, "an envelope has a tag of 16 bytes, and a time")
        if not 0 < len(self.ciphertext) <= MAX_CIPHERTEXT:
            raise Malformed(Reason.TOO_LONG, f"an envelope holds 1 to {MAX_CIPHERTEXT} bytes")
        if not 1 <= self.copies <= MAX_COPIES or not 0 <= (self.prekey or 0) < 1 << 32:
            raise Malformed(Reason.FIELD, f"an envelope has 1 to {MAX_COPIES} copies")
        parts = [
            field(TAG, self.tag, 2),
            field(EXPIRY, self.expires_ms.to_bytes(8, "big"), 2),
            field(CIPHERTEXT, self.ciphertext, 2),
        ]
        if self.copies > 1:
            parts.append(field(COPIES, bytes([self.copies]), 2))
        if self.prekey is not None:
            parts.append(field(PREKEY, self.prekey.to_bytes(4, "big"), 2))
        return b"".join(parts)

    @classmethod
    def decode(cls, payload: bytes) -> CourierEnvelope:
        """Read an envelope; copies beyond what is allowed are cut to it.

        Raises:
            Malformed: it is none.
        """
        found: dict[int, bytes] = {}
        for tag, value in fields(payload, 2, "an envelope"):
            if len(value) != LENGTHS.get(tag, len(value)):
                raise Malformed(Reason.FIELD, "an envelope has a field of other length")
            found[tag] = value
        if not {TAG, EXPIRY, CIPHERTEXT} <= found.keys():
            raise Malformed(Reason.MISSING, "an envelope has a tag, a time and a ciphertext")
        if not 0 < len(found[CIPHERTEXT]) <= MAX_CIPHERTEXT:
            raise Malformed(Reason.TOO_LONG, f"an envelope holds 1 to {MAX_CIPHERTEXT} bytes")
        prekey = found.get(PREKEY)
        return cls(
            found[TAG],
            int.from_bytes(found[EXPIRY], "big"),
            found[CIPHERTEXT],
            min(max(found.get(COPIES, b"\1")[0], 1), MAX_COPIES),
            None if prekey is None else int.from_bytes(prekey, "big"),
        )

    def with_copies(self, copies: int) -> CourierEnvelope:
        """The same envelope, of which fewer or more copies may be made."""
        return msgspec.structs.replace(self, copies=min(max(copies, 1), MAX_COPIES))


def day_of(now_ms: int) -> int:
    """The number of the day since 1970, UTC, as 32 bits hold it."""
    return min(max(now_ms, 0) // DAY_MS, (1 << 32) - 1)


def recipient_tag(noise_key: bytes, day: int) -> bytes:
    """By which whoever has this Noise public key recognises envelopes of a day; 16 bytes."""
    message = CONTEXT + day.to_bytes(4, "big")
    return hmac.new(noise_key, message, hashlib.sha256).digest()[:TAG_BYTES]


def tags_around(noise_key: bytes, now_ms: int) -> tuple[bytes, ...]:
    """The tags of yesterday, today and tomorrow: clocks differ, and envelopes travel at night."""
    today = day_of(now_ms)
    days = dict.fromkeys((max(today - 1, 0), today, min(today + 1, (1 << 32) - 1)))
    return tuple(recipient_tag(noise_key, day) for day in days)
