"""The announce: who somebody says they are, with which keys, and what their program can do.

Fields of tag, length (1 byte) and value; tags that are not known are passed over, and of one that
comes twice the last counts:

====  ==============  =============================================================================
tag   bytes           value
====  ==============  =============================================================================
01    up to 255       nickname, UTF-8
02    32              Noise public key (X25519); SHA-256 of it begins with the sender's peer id
03    32              signing key (Ed25519)
04    8 n, n to 10    peer ids of the direct neighbours
05    1 or more       what the program can do, bits, little-endian; those above the 64th are ignored
06    up to 12        geohash of the cell that it bridges, UTF-8
====  ==============  =============================================================================

Source: ``Protocols/Packets.swift`` and ``BitFoundation/PeerCapabilities.swift`` of the app.
"""

from __future__ import annotations

import hashlib
from enum import IntFlag
from typing import Final

import msgspec

from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.kinds import PEER_ID_BYTES, Kind
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.bitchat.wire.signing import verify
from fog_compute.p2p.bitchat.wire.tlv import field, fields, text, utf8

__all__ = [
    "KEY_BYTES",
    "MAX_NEIGHBOURS",
    "Announce",
    "Capability",
    "peer_id",
    "verified_announce",
]

KEY_BYTES: Final = 32
MAX_NEIGHBOURS: Final = 10
MAX_GEOHASH: Final = 12

NICKNAME: Final = 0x01
NOISE_KEY: Final = 0x02
SIGNING_KEY: Final = 0x03
NEIGHBOURS: Final = 0x04
CAPABILITIES: Final = 0x05
BRIDGE: Final = 0x06


class Capability(IntFlag):
    """What a program can do beside the plain chat. Bits without a name are kept as they came."""

    PREKEYS = 1 << 0
    WIFI_BULK = 1 << 1
    GATEWAY = 1 << 2
    GROUPS = 1 << 3
    BOARD = 1 << 4
    VOUCH = 1 << 5
    DIAGNOSTICS = 1 << 6
    BRIDGE = 1 << 7
    PRIVATE_MEDIA = 1 << 8
    MEDIA_RECEIPTS = 1 << 9
    LONG_SETS = 1 << 56
    """Takes packets in more than 256 pieces. Ours; others keep it unread."""

    def encode(self) -> bytes:
        """Little-endian, as few bytes as hold it and at least one."""
        value = int(self)
        return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "little")

    @classmethod
    def parse(cls, data: bytes) -> Capability:
        """Read any number of bytes, of which the first eight count."""
        return cls(int.from_bytes(data[:8], "little"))


class Announce(msgspec.Struct, frozen=True):
    """What a peer says about itself.

    Attributes:
        nickname: as the peer chose it; anything that is UTF-8.
        noise_key: 32 bytes, X25519.
        signing_key: 32 bytes, Ed25519.
        neighbours: peer ids with whom it has a link.
        capabilities: what its program can do, or ``None`` where it does not say.
        bridge: the geohash of the cell that it bridges.
    """

    nickname: str
    noise_key: bytes
    signing_key: bytes
    neighbours: tuple[bytes, ...] = ()
    capabilities: Capability | None = None
    bridge: str | None = None

    def encode(self) -> bytes:
        """The payload of an announce.

        Raises:
            Malformed: a key or neighbour has another length, or there is too much of something.
        """
        if len(self.noise_key) != KEY_BYTES or len(self.signing_key) != KEY_BYTES:
            raise Malformed(Reason.FIELD, "the keys of an announce have 32 bytes each")
        if any(len(one) != PEER_ID_BYTES for one in self.neighbours):
            raise Malformed(Reason.FIELD, "the neighbours of an announce have 8 bytes each")
        if len(self.neighbours) > MAX_NEIGHBOURS:
            raise Malformed(Reason.TOO_LONG, f"an announce names up to {MAX_NEIGHBOURS} neighbours")
        parts = [
            field(NICKNAME, utf8(self.nickname, "a nickname"), 1),
            field(NOISE_KEY, self.noise_key, 1),
            field(SIGNING_KEY, self.signing_key, 1),
        ]
        if self.neighbours:
            parts.append(field(NEIGHBOURS, b"".join(self.neighbours), 1))
        if self.capabilities is not None:
            parts.append(field(CAPABILITIES, self.capabilities.encode(), 1))
        if self.bridge:
            cell = utf8(self.bridge, "a geohash")
            if len(cell) > MAX_GEOHASH:
                raise Malformed(Reason.TOO_LONG, f"a geohash has up to {MAX_GEOHASH} bytes")
            parts.append(field(BRIDGE, cell, 1))
        return b"".join(parts)

    @classmethod
    def decode(cls, payload: bytes) -> Announce:
        """Read the payload of an announce; nothing of it is checked by a signature yet.

        Raises:
            Malformed: it is none, or lacks the nickname or a key.
        """
        nickname: str | None = None
        keys: dict[int, bytes] = {}
        neighbours: tuple[bytes, ...] = ()
        capabilities: Capability | None = None
        bridge: str | None = None
        for tag, value in fields(payload, 1, "an announce"):
            if tag == NICKNAME:
                nickname = text(value, "the nickname in an announce")
            elif tag in (NOISE_KEY, SIGNING_KEY):
                if len(value) != KEY_BYTES:
                    raise Malformed(Reason.FIELD, "a key in an announce has not 32 bytes")
                keys[tag] = value
            elif tag == NEIGHBOURS:
                neighbours = _peer_ids(value) or neighbours
            elif tag == CAPABILITIES:
                capabilities = Capability.parse(value)
            elif tag == BRIDGE and len(value) <= MAX_GEOHASH:
                bridge = text(value, "the geohash in an announce")
        if nickname is None or len(keys) < 2:
            raise Malformed(Reason.MISSING, "an announce has a nickname and two keys")
        return cls(nickname, keys[NOISE_KEY], keys[SIGNING_KEY], neighbours, capabilities, bridge)


def peer_id(noise_key: bytes) -> bytes:
    """The 8 bytes by which packets name whoever has this Noise public key."""
    return hashlib.sha256(noise_key).digest()[:PEER_ID_BYTES]


def verified_announce(packet: Packet) -> Announce:
    """Read an announce whose sender has the signing key, and is named by the Noise key, in it.

    That its sender *has* the Noise key, no announce proves; a handshake does. Whether the packet is
    too old, and whether the signing key is the one that was known before, the caller decides.

    Raises:
        Malformed: it is no announce, its peer id is not that of its key, or it is not signed.
    """
    if packet.kind != Kind.ANNOUNCE:
        raise Malformed(Reason.KIND, "a packet of another kind is no announce")
    announce = Announce.decode(packet.payload)
    if peer_id(announce.noise_key) != packet.sender:
        raise Malformed(Reason.FIELD, "an announce has a key that is not its sender's")
    if not verify(packet, announce.signing_key):
        raise Malformed(Reason.SIGNATURE, "an announce is not signed with the key that it tells")
    return announce


def _peer_ids(value: bytes) -> tuple[bytes, ...]:
    """Neighbours, or none where these are not whole peer ids, as the app has it."""
    if len(value) % PEER_ID_BYTES:
        return ()
    value = value[: MAX_NEIGHBOURS * PEER_ID_BYTES]
    return tuple(value[i : i + PEER_ID_BYTES] for i in range(0, len(value), PEER_ID_BYTES))
