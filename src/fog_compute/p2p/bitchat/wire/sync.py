"""The request for what was missed: a set of what its sender has; a neighbour sends the rest.

Fields of tag, length (2 bytes) and value; tags that are not known are passed over, and so are
fields 01, 02, 04, 05 and 06 that have a length that they cannot have:

====  ==============  =============================================================================
tag   bytes           value
====  ==============  =============================================================================
01    1               P of the set (``gcs.py``)
02    4               M of the set
03    up to 1,024     the set
04    1 to 8          kinds of packets that it is about, a bit for each, little-endian
05    8               ms since 1970: it is about packets from then on
06    up to 1,024     ids of fragment sets, hexadecimal with commas, up to 60: it is about these
====  ==============  =============================================================================

A packet's id is SHA-256 of its kind (1 byte), its sender (8), its time (8) and its payload; the
first 16 bytes of that. A request has TTL 0: it goes to a neighbour and no further.

Source: ``Models/RequestSyncPacket.swift``, ``Sync/SyncTypeFlags.swift`` and
``Sync/PacketIdUtil.swift`` of the app.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.gcs import MAX_FILTER, Filter
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.bitchat.wire.tlv import field, fields

__all__ = ["MAX_FRAGMENT_IDS", "PACKET_ID_BYTES", "SYNCED", "SyncRequest", "packet_id"]

PACKET_ID_BYTES: Final = 16
MAX_FRAGMENT_IDS: Final = 60
FRAGMENT_ID_BYTES: Final = 8

SYNCED: Final = (
    Kind.ANNOUNCE,
    Kind.MESSAGE,
    Kind.LEAVE,
    Kind.NOISE_HANDSHAKE,
    Kind.NOISE_ENCRYPTED,
    Kind.FRAGMENT,
    Kind.REQUEST_SYNC,
    Kind.FILE_TRANSFER,
    Kind.BOARD_POST,
    Kind.PREKEY_BUNDLE,
    Kind.GROUP_MESSAGE,
)
"""The kinds that have a bit, from the lowest on; a bit for none of them means nothing."""

P: Final = 0x01
M: Final = 0x02
DATA: Final = 0x03
TYPES: Final = 0x04
SINCE: Final = 0x05
FRAGMENTS: Final = 0x06


class SyncRequest(msgspec.Struct, frozen=True):
    """What somebody has, and of what.

    Attributes:
        has: ids of the packets that its sender has.
        kinds: what it is about; ``None`` is announces and messages.
        since_ms: it is about packets made from then on.
        fragments: it is about the fragments of these sets alone, 8 bytes each.
    """

    has: Filter
    kinds: frozenset[Kind] | None = None
    since_ms: int | None = None
    fragments: frozenset[bytes] | None = None

    def encode(self) -> bytes:
        """The payload of a packet of the kind ``REQUEST_SYNC``.

        Raises:
            Malformed: a time or the id of a fragment set does not fit.
        """
        parts = [
            field(P, bytes([self.has.p]), 2),
            field(M, self.has.m.to_bytes(4, "big"), 2),
            field(DATA, self.has.data, 2),
        ]
        if self.kinds:
            bits = sum(1 << SYNCED.index(kind) for kind in self.kinds if kind in SYNCED)
            parts.append(field(TYPES, bits.to_bytes((bits.bit_length() + 7) // 8, "little"), 2))
        if self.since_ms is not None:
            if not 0 <= self.since_ms < 1 << 64:
                raise Malformed(Reason.FIELD, "the time in a sync request does not fit 64 bits")
            parts.append(field(SINCE, self.since_ms.to_bytes(8, "big"), 2))
        if self.fragments:
            if any(len(one) != FRAGMENT_ID_BYTES for one in self.fragments):
                raise Malformed(Reason.FIELD, "the id of a fragment set has 8 bytes")
            if len(self.fragments) > MAX_FRAGMENT_IDS:
                raise Malformed(
                    Reason.TOO_LONG, f"a sync request names up to {MAX_FRAGMENT_IDS} fragment sets"
                )
            names = ",".join(sorted(one.hex() for one in self.fragments))
            parts.append(field(FRAGMENTS, names.encode(), 2))
        return b"".join(parts)

    @classmethod
    def decode(cls, payload: bytes) -> SyncRequest:
        """Read a request; its set is taken apart later, in bounded time.

        Raises:
            Malformed: it is none.
        """
        p = m = 0
        data: bytes | None = None
        kinds: frozenset[Kind] | None = None
        since: int | None = None
        fragments: frozenset[bytes] | None = None
        for tag, value in fields(payload, 2, "a sync request"):
            if tag == P and len(value) == 1:
                p = value[0]
            elif tag == M and len(value) == 4:
                m = int.from_bytes(value, "big")
            elif tag == DATA:
                data = value
            elif tag == TYPES and 1 <= len(value) <= 8:
                bits = int.from_bytes(value, "little")
                kinds = frozenset(kind for bit, kind in enumerate(SYNCED) if bits >> bit & 1)
            elif tag == SINCE and len(value) == 8:
                since = int.from_bytes(value, "big")
            elif tag == FRAGMENTS and len(value) <= MAX_FILTER:
                fragments = _fragment_ids(value) or fragments
        if data is None or not (p and m):
            raise Malformed(Reason.MISSING, "a sync request has no set")
        return cls(Filter(p, m, data), kinds, since, fragments)


def packet_id(packet: Packet) -> bytes:
    """By which a packet is the same one, whatever its TTL, its signature and its compression."""
    head = b"%c%b%b" % (packet.kind, packet.sender, packet.timestamp.to_bytes(8, "big"))
    return hashlib.sha256(head + packet.payload).digest()[:PACKET_ID_BYTES]


def _fragment_ids(value: bytes) -> frozenset[bytes]:
    """The ids of fragment sets in a list; what is none is passed over."""
    found: set[bytes] = set()
    for one in value.split(b",")[:MAX_FRAGMENT_IDS]:
        if len(one) == 2 * FRAGMENT_ID_BYTES:
            try:
                found.add(bytes.fromhex(one.decode()))
            except ValueError:
                continue
    return frozenset(one for one in found if len(one) == FRAGMENT_ID_BYTES)
