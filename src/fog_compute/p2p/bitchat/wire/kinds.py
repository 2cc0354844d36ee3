"""The kinds of packets, and what a kind alone decides.

Source: ``BitFoundation/MessageType.swift`` and ``BLEOutboundPacketPolicy.swift`` of the app.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["BROADCAST", "LARGE", "PADDED", "PEER_ID_BYTES", "UNPACKED", "Kind"]

PEER_ID_BYTES: Final = 8
BROADCAST: Final = b"\xff" * PEER_ID_BYTES
"""A recipient that means everybody, as no recipient does."""


class Kind(IntEnum):
    """The second byte of a packet. Other values are no error: they are passed on, and not read."""

    ANNOUNCE = 0x01
    MESSAGE = 0x02
    LEAVE = 0x03
    COURIER_ENVELOPE = 0x04
    NOISE_HANDSHAKE = 0x10
    NOISE_ENCRYPTED = 0x11
    FRAGMENT = 0x20
    REQUEST_SYNC = 0x21
    FILE_TRANSFER = 0x22
    BOARD_POST = 0x23
    PREKEY_BUNDLE = 0x24
    GROUP_MESSAGE = 0x25
    PING = 0x26
    PONG = 0x27
    NOSTR_CARRIER = 0x28
    VOICE_FRAME = 0x29
    ANNOUNCE_V2 = 0x2C


PADDED: Final = frozenset({Kind.NOISE_HANDSHAKE, Kind.NOISE_ENCRYPTED})
"""What is padded on the air; all else has the length that it has."""

LARGE: Final = frozenset({Kind.FILE_TRANSFER, Kind.NOISE_ENCRYPTED})
"""What may hold a file. All else is bounded as in version 1: a kilobyte of DEFLATE could otherwise
become a megabyte of anything."""

UNPACKED: Final = PADDED | {Kind.FRAGMENT}
"""What we do not try to compress: ciphertext, and pieces of what was compressed.

Neither is signed, so no signature depends on it; to try takes ten times as long as all the rest.
"""
