"""What travels inside a Noise session: one byte that says what it is, and the thing itself.

====  =============================================================================================
byte  what follows
====  =============================================================================================
01    a private message: tag 00 its id, tag 01 its text, each with a length of 1 byte; no other tag
02    the id of a message that was read
03    the id of a message that was delivered
06    a group's state, signed by its creator, as an invitation (``groups.py``)
07    the same, with a new key
08    live voice
10    a challenge to verify a person; 11 answers it; 12 vouches for others
20    a file (``files.py``); 09 means the same, was sent by test builds, and is only read
21    what its sender's program can do, and its signing key, proved by the session
f0    a contact card, as text; ours alone, and passed over by the app
====  =============================================================================================

Ids and texts are UTF-8 of up to 255 bytes. The app's ids are UUIDs as a rule.

Source: ``NoisePayloadType`` in ``Protocols/BitchatProtocol.swift``, ``PrivateMessagePacket`` and
``AuthenticatedPeerStatePacket`` in ``Protocols/Packets.swift`` of the app.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from fog_compute.p2p.bitchat.wire.announce import KEY_BYTES, Capability
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.tlv import field, fields, text, utf8

__all__ = [
    "MAX_ID",
    "MAX_TEXT",
    "PeerState",
    "PrivateKind",
    "PrivateMessage",
    "decode_id",
    "encode_id",
    "inside",
    "within",
]

MAX_ID: Final = 255
MAX_TEXT: Final = 255
"""Bytes of UTF-8 in a private message; longer text travels as a file."""

MESSAGE_ID: Final = 0x00
CONTENT: Final = 0x01

STATE_VERSION: Final = 1
CAPABILITIES: Final = 0x01
SIGNING_KEY: Final = 0x02

TEST_FILE: Final = 0x09


class PrivateKind(IntEnum):
    """The first byte inside a session. Other values are passed over, as the app does."""

    MESSAGE = 0x01
    READ = 0x02
    DELIVERED = 0x03
    GROUP_INVITE = 0x06
    GROUP_KEY_UPDATE = 0x07
    VOICE = 0x08
    VERIFY_CHALLENGE = 0x10
    VERIFY_RESPONSE = 0x11
    VOUCH = 0x12
    FILE = 0x20
    PEER_STATE = 0x21
    CONTACT_CARD = 0xF0


def within(kind: PrivateKind, body: bytes) -> bytes:
    """What a session encrypts."""
    return bytes([kind]) + body


def inside(data: bytes) -> tuple[int, bytes]:
    """The kind of what a session decrypted, which may be unknown, and the thing itself.

    Raises:
        Malformed: there is nothing.
    """
    if not data:
        raise Malformed(Reason.TRUNCATED, "a private payload has no kind")
    return PrivateKind.FILE if data[0] == TEST_FILE else data[0], data[1:]


class PrivateMessage(msgspec.Struct, frozen=True):
    """A short text to one person.

    Attributes:
        id: names it in receipts, up to 255 bytes of UTF-8.
        text: up to 255 bytes of UTF-8.
    """

    id: str
    text: str

    def encode(self) -> bytes:
        """Its bytes.

        Raises:
            Malformed: its id or its text is too long.
        """
        return field(MESSAGE_ID, encode_id(self.id), 1) + field(
            CONTENT, utf8(self.text, "a private message"), 1
        )

    @classmethod
    def decode(cls, data: bytes) -> PrivateMessage:
        """Read a private message; unlike elsewhere an unknown tag is an error, as in the app.

        Raises:
            Malformed: it is none.
        """
        found: dict[int, str] = {}
        for tag, value in fields(data, 1, "a private message"):
            if tag not in (MESSAGE_ID, CONTENT):
                raise Malformed(Reason.FIELD, "a private message has a field of an unknown kind")
            found[tag] = text(value, "a private message")
        if len(found) < 2:
            raise Malformed(Reason.MISSING, "a private message has an id and a text")
        return cls(found[MESSAGE_ID], found[CONTENT])


def encode_id(identifier: str) -> bytes:
    """The id of a message, as a receipt has it.

    Raises:
        Malformed: it is empty or longer than 255 bytes.
    """
    data = utf8(identifier, "the id of a message")
    if not 0 < len(data) <= MAX_ID:
        raise Malformed(Reason.FIELD, f"the id of a message has 1 to {MAX_ID} bytes")
    return data


def decode_id(data: bytes) -> str:
    """The id of the message that a receipt is about.

    Raises:
        Malformed: it is none.
    """
    if not 0 < len(data) <= MAX_ID:
        raise Malformed(Reason.FIELD, "a receipt names no message")
    return text(data, "the id in a receipt")


class PeerState(msgspec.Struct, frozen=True):
    """What a peer says about itself where nobody else can say it.

    Version 1, then fields of tag, length (1 byte) and value: 01 what its program can do, in as few
    bytes as hold it and at most 8; 02 its signing key, 32 bytes. Other tags are passed over; a tag
    that comes twice is an error.

    Attributes:
        capabilities: what its program can do.
        signing_key: Ed25519; counts more than the one in an announce.
    """

    capabilities: Capability
    signing_key: bytes

    def encode(self) -> bytes:
        """Its bytes.

        Raises:
            Malformed: the key has not 32 bytes.
        """
        if len(self.signing_key) != KEY_BYTES:
            raise Malformed(Reason.FIELD, "a signing key has 32 bytes")
        return (
            bytes([STATE_VERSION])
            + field(CAPABILITIES, self.capabilities.encode(), 1)
            + field(SIGNING_KEY, self.signing_key, 1)
        )

    @classmethod
    def decode(cls, data: bytes) -> PeerState:
        """Read what a peer says about itself.

        Raises:
            Malformed: it is nothing of that sort.
        """
        if data[:1] != bytes([STATE_VERSION]):
            raise Malformed(Reason.VERSION, "what a peer says of itself is of another version")
        found: dict[int, bytes] = {}
        for tag, value in fields(data[1:], 1, "what a peer says of itself"):
            if tag in found:
                raise Malformed(Reason.FIELD, "what a peer says of itself has a field twice")
            found[tag] = value
        if CAPABILITIES not in found or SIGNING_KEY not in found:
            raise Malformed(Reason.MISSING, "a peer tells a signing key and what it can do")
        bits, key = found[CAPABILITIES], found[SIGNING_KEY]
        capabilities = Capability.parse(bits)
        if capabilities.encode() != bits or len(key) != KEY_BYTES:
            raise Malformed(Reason.FIELD, "what a peer says of itself has a field of other length")
        return cls(capabilities, key)
