"""The packet: a header, who it is from and for, a payload, and perhaps a signature.

All numbers are big-endian. A version 2 packet has a longer payload length, and may have a route.

=====  =====  ========  ===========================================================================
v1     v2     bytes     field
=====  =====  ========  ===========================================================================
0      0      1         version, 1 or 2
1      1      1         kind
2      2      1         TTL; the one byte that a relay changes
3      3      8         time of sending, in ms since 1970
11     11     1         flags: 01 recipient, 02 signature, 04 compressed, 08 route (version 2), 10
                        answer to a sync request
12     12     2 or 4    length of the payload, with the original size where it is compressed
14     16     8         sender
..     ..     8         recipient, if flagged
..     ..     1 + 8 n   number of hops and the hops between sender and recipient, if flagged
..     ..     2 or 4    original size of the payload, if compressed
..     ..     n         payload
..     ..     64        Ed25519 signature, if flagged
=====  =====  ========  ===========================================================================

What follows the last field is padding and not looked at: to take the padding away first, as the app
does where a first try failed, reads no packet that was not read before.

The bytes that came are kept. They are what a signature is checked over and what is passed on,
because to compress a payload again gives other bytes (``docs/spec/bitchat.md``).

Source: ``BitFoundation/BinaryProtocol.swift`` and ``FileTransferLimits.swift`` of the app.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from fog_compute.p2p.bitchat.wire.compression import compress, decompress
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.kinds import BROADCAST, LARGE, PADDED, PEER_ID_BYTES, UNPACKED
from fog_compute.p2p.bitchat.wire.padding import pad

__all__ = [
    "MAX_HOPS",
    "MAX_PAYLOAD",
    "MAX_PLAIN",
    "MAX_TTL",
    "SHORTEST",
    "SIGNATURE_BYTES",
    "Packet",
    "decode",
    "fixed",
    "is_answer",
    "packet",
    "wire_length",
]

MAX_TTL: Final = 7
"""The hops that a packet of ours may go; what strangers send may claim more, up to 255."""
MAX_HOPS: Final = 255
SIGNATURE_BYTES: Final = 64
SHORTEST: Final = 22
"""Bytes of a packet without payload; what has fewer is none."""
MAX_PAYLOAD: Final = (1 << 20) + 18 + 2 * 0xFFFF + 16 + 3 * PEER_ID_BYTES + 56
"""The largest payload in bytes, packed or not: a file of 1 MiB, its names, and a packet around."""
MAX_PLAIN: Final = 0xFFFF
"""The largest payload in bytes, packed or not, of kinds that hold no file."""

TOO_LARGE: Final = "a packet claims a payload larger than any of its kind"

RECIPIENT: Final = 0x01
SIGNATURE: Final = 0x02
COMPRESSED: Final = 0x04
ROUTE: Final = 0x08
SYNC_ANSWER: Final = 0x10

TTL_AT: Final = 2
FLAGS_AT: Final = 11
HEADS: Final = {1: struct.Struct(">BBBQBH8s"), 2: struct.Struct(">BBBQBI8s")}
SIZES: Final = {1: struct.Struct(">H"), 2: struct.Struct(">I")}


class Packet(msgspec.Struct, frozen=True, gc=False):
    """One packet, sent or received.

    Attributes:
        kind: what it is; one of :class:`~fog_compute.p2p.bitchat.wire.kinds.Kind`, or unknown.
        sender: the peer id of who made it, 8 bytes; only a signature shows that it is so.
        timestamp: when it was made, by its sender's clock, in ms since 1970.
        payload: what it carries, as it was before it was compressed.
        ttl: hops that it may still go.
        recipient: for whom it is, 8 bytes; ``None`` or eight times FF is everybody.
        route: peer ids of the hops in between, if its sender chose them.
        signature: 64 bytes, not checked by being here.
        version: 1 or 2.
        sync_answer: whether it answers a request for what was missed.
        wire: its bytes, without padding.
    """

    kind: int
    sender: bytes
    timestamp: int
    payload: bytes
    ttl: int
    recipient: bytes | None
    route: tuple[bytes, ...]
    signature: bytes | None
    version: int
    sync_answer: bool
    wire: bytes

    @property
    def directed(self) -> bool:
        """Whether it is for one peer."""
        return self.recipient is not None and self.recipient != BROADCAST

    @property
    def compressed(self) -> bool:
        """Whether its bytes have the payload compressed."""
        return bool(self.wire[FLAGS_AT] & COMPRESSED)

    @property
    def on_air(self) -> bytes:
        """What is handed to a link: its bytes, padded where its kind is."""
        return pad(self.wire) if self.kind in PADDED else self.wire

    @property
    def bare(self) -> Packet:
        """The same packet without its payload, which may be a thousand times as long as its bytes.

        For those who keep packets in order to pass them on; :func:`decode` of its bytes gives the
        whole one again.
        """
        return msgspec.structs.replace(self, payload=b"")

    def with_ttl(self, ttl: int) -> Packet:
        """The same packet with another number of hops to go; its other bytes stay as they are."""
        wire = b"%b%c%b" % (self.wire[:TTL_AT], ttl, self.wire[TTL_AT + 1 :])
        return msgspec.structs.replace(self, ttl=ttl, wire=wire)

    def as_sync_answer(self) -> Packet:
        """The same packet for a neighbour that asked for what it missed: it goes no further."""
        flags = self.wire[FLAGS_AT] | SYNC_ANSWER
        wire = b"%b\0%b%c%b" % (
            self.wire[:TTL_AT],
            self.wire[TTL_AT + 1 : FLAGS_AT],
            flags,
            self.wire[FLAGS_AT + 1 :],
        )
        return msgspec.structs.replace(self, ttl=0, sync_answer=True, wire=wire)


def packet(
    kind: int,
    sender: bytes,
    timestamp: int,
    payload: bytes,
    *,
    ttl: int = MAX_TTL,
    recipient: bytes | None = None,
    route: tuple[bytes, ...] = (),
    signature: bytes | None = None,
    version: int = 1,
    sync_answer: bool = False,
    packed: bool = True,
) -> Packet:
    """Make a packet, compressed where the rule says so.

    Args:
        kind: what it is, 0 to 255.
        sender: 8 bytes.
        timestamp: ms since 1970.
        payload: at most 65,535 bytes; in version 2, of kinds that hold files, :data:`MAX_PAYLOAD`.
        ttl: hops that it may go, 0 to 255.
        recipient: 8 bytes, or nobody in particular.
        route: up to 255 hops of 8 bytes, in version 2.
        signature: 64 bytes; see :func:`fog_compute.p2p.bitchat.wire.signing.sign`.
        version: 1, or 2 for files and routes.
        sync_answer: whether it answers a request for what was missed.
        packed: ``False`` never compresses.

    Raises:
        Malformed: the format has no bytes for this.
    """
    if version not in HEADS:
        raise Malformed(Reason.VERSION, f"a packet has version 1 or 2, not {version}")
    if not (0 <= kind <= 255 and 0 <= ttl <= 255 and 0 <= timestamp < 1 << 64):
        raise Malformed(Reason.FIELD, "kind and TTL of a packet are bytes, its time fits 64 bits")
    ids = (sender, *route) if recipient is None else (sender, recipient, *route)
    if any(len(one) != PEER_ID_BYTES for one in ids):
        raise Malformed(Reason.FIELD, "the peer ids in a packet have 8 bytes each")
    if len(route) > (MAX_HOPS if version == 2 else 0):
        raise Malformed(Reason.TOO_LONG, "a route is in version 2 alone, and has up to 255 hops")
    if signature is not None and len(signature) != SIGNATURE_BYTES:
        raise Malformed(Reason.FIELD, "the signature of a packet has 64 bytes")
    if len(payload) > (_most(kind) if version == 2 else MAX_PLAIN):
        raise Malformed(Reason.TOO_LONG, f"{len(payload)} bytes are too many for one payload")
    flags = (
        (RECIPIENT if recipient is not None else 0)
        | (SIGNATURE if signature is not None else 0)
        | (ROUTE if route else 0)
        | (SYNC_ANSWER if sync_answer else 0)
    )
    body = payload
    if packed and kind not in UNPACKED and (deflated := compress(payload)) is not None:
        flags |= COMPRESSED
        # It fits version 1: of at most 230 values in 65,535 bytes Huffman alone saves hundreds.
        body = SIZES[version].pack(len(payload)) + deflated
    wire = b"".join(
        (
            HEADS[version].pack(version, kind, ttl, timestamp, flags, len(body), sender),
            recipient or b"",
            bytes([len(route)]) if route else b"",
            *route,
            body,
            signature or b"",
        )
    )
    return Packet(
        kind,
        sender,
        timestamp,
        payload,
        ttl,
        recipient,
        route,
        signature,
        version,
        sync_answer,
        wire,
    )


def decode(data: bytes) -> Packet:
    """Read a packet, padded or not.

    Args:
        data: what a link brought, or fragments were put together to.

    Raises:
        Malformed: they are no packet; see the reason.
    """
    head = _head(data)
    version, kind, ttl, timestamp, flags, length, sender = head.unpack_from(data)
    if length > _most(kind):
        raise Malformed(Reason.TOO_LONG, TOO_LARGE)
    at = head.size
    recipient: bytes | None = None
    route: tuple[bytes, ...] = ()
    if flags & RECIPIENT:
        recipient = data[at : at + PEER_ID_BYTES]
        at += PEER_ID_BYTES
    if flags & ROUTE and version == 2:
        hops = data[at] if at < len(data) else 0
        at += 1
        end = at + PEER_ID_BYTES * hops
        if end <= len(data):
            route = tuple(data[i : i + PEER_ID_BYTES] for i in range(at, end, PEER_ID_BYTES))
        at = end
    body = data[at : at + length]
    at += length
    signature: bytes | None = None
    if flags & SIGNATURE:
        signature = data[at : at + SIGNATURE_BYTES]
        at += SIGNATURE_BYTES
    # What is not there was cut short by the slices above; nothing was made of it.
    if at > len(data):
        raise Malformed(Reason.TRUNCATED, "a packet ends before its last field")
    return Packet(
        kind,
        sender,
        timestamp,
        _unpacked(body, version, _most(kind)) if flags & COMPRESSED else body,
        ttl,
        recipient,
        route,
        signature,
        version,
        bool(flags & SYNC_ANSWER),
        data if len(data) == at else data[:at],
    )


def fixed(wire: bytes) -> bytes:
    """The bytes of a packet but for what a relay and an answer to a sync request change."""
    flags = wire[FLAGS_AT] & ~SYNC_ANSWER
    return b"%b%b%c%b" % (wire[:TTL_AT], wire[TTL_AT + 1 : FLAGS_AT], flags, wire[FLAGS_AT + 1 :])


def is_answer(wire: bytes) -> bool:
    """Whether the bytes of a packet say that it answers a sync request."""
    return bool(wire[FLAGS_AT] & SYNC_ANSWER)


def wire_length(data: bytes) -> int | None:
    """How many bytes the packet has that begins here, for links that bring it in pieces.

    Args:
        data: its first bytes.

    Returns:
        Its length without padding, or ``None`` while too few bytes are there to know.

    Raises:
        Malformed: these are not the first bytes of a packet.
    """
    try:
        head = _head(data)
    except Malformed as malformed:
        if malformed.reason is Reason.TRUNCATED:
            return None
        raise
    version, kind, _, _, flags, length, _ = head.unpack_from(data)
    if length > _most(kind):
        raise Malformed(Reason.TOO_LONG, TOO_LARGE)
    at = head.size
    if flags & RECIPIENT:
        at += PEER_ID_BYTES
    if flags & ROUTE and version == 2:
        if len(data) <= at:
            return None
        at += 1 + PEER_ID_BYTES * data[at]
    end: int = at + length + (SIGNATURE_BYTES if flags & SIGNATURE else 0)
    return end


def _head(data: bytes) -> struct.Struct:
    """The layout of the header of what may be a packet, which is there whole."""
    if not data:
        raise Malformed(Reason.TRUNCATED, "an empty frame is no packet")
    head = HEADS.get(data[0])
    if head is None:
        raise Malformed(Reason.VERSION, "a packet has version 1 or 2")
    if len(data) < head.size:
        raise Malformed(Reason.TRUNCATED, "a packet ends within its header")
    return head


def _most(kind: int) -> int:
    """How many bytes a payload of a kind may have."""
    return MAX_PAYLOAD if kind in LARGE else MAX_PLAIN


def _unpacked(body: bytes, version: int, most: int) -> bytes:
    """The payload of a packet that has it compressed, with its size in front."""
    preamble = SIZES[version]
    if len(body) <= preamble.size:
        raise Malformed(Reason.TRUNCATED, "a compressed payload has no bytes")
    size: int = preamble.unpack_from(body)[0]
    if size > most:
        raise Malformed(Reason.TOO_LONG, TOO_LARGE)
    return decompress(body[preamble.size :], size)
