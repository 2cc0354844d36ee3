"""Signatures of packets: Ed25519 over the bytes that came.

What is signed is the packet without its signature, with TTL 0, with the flags for a signature and
for an answer to a sync request cleared, its payload compressed or not as it travels, and padded to
its bucket, whether or not its kind is padded on the air: 46 bytes sign as 256.

A relay that runs the app reads a packet and makes its bytes again, with Apple's encoder. Where a
compressed packet does not verify as it came, the two other forms of the same content that its
sender may have signed are tried: with our encoder, and not compressed at all.

Source: ``toBinaryDataForSigning`` in ``BitFoundation/BitchatPacket.swift`` of the app.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fog_compute.p2p.bitchat.wire import packet as packets
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.bitchat.wire.padding import pad

__all__ = ["Signer", "as_signed", "preimage", "sign", "verify"]

_UNKNOWN: Final = {1: 0xE0 | packets.ROUTE, 2: 0xE0}
"""Flags that mean nothing: a form of our own would not have them, and they were signed."""


class Signer(Protocol):
    """What has a signing key, such as cryptography's ``Ed25519PrivateKey``."""

    def sign(self, data: bytes, /) -> bytes:
        """The signature over some bytes, 64 bytes."""
        ...


def preimage(packet: Packet) -> bytes:
    """What the signature of a packet is made over, signed already or not."""
    wire = packet.wire
    at = packets.FLAGS_AT
    flags = wire[at] & ~(packets.SIGNATURE | packets.SYNC_ANSWER)
    end = len(wire) - (packets.SIGNATURE_BYTES if packet.signature is not None else 0)
    ttl = packets.TTL_AT
    return pad(b"%b\0%b%c%b" % (wire[:ttl], wire[ttl + 1 : at], flags, wire[at + 1 : end]))


def sign(packet: Packet, key: Signer) -> Packet:
    """The packet with a signature; one that it had is replaced."""
    signature = key.sign(preimage(packet))
    end = len(packet.wire) - (packets.SIGNATURE_BYTES if packet.signature is not None else 0)
    at = packets.FLAGS_AT
    flags = packet.wire[at] | packets.SIGNATURE
    wire = b"%b%c%b%b" % (packet.wire[:at], flags, packet.wire[at + 1 : end], signature)
    return msgspec.structs.replace(packet, signature=signature, wire=wire)


def verify(packet: Packet, public_key: bytes) -> bool:
    """Whether a packet was signed with the key, 32 bytes; no signature or no key is a no."""
    return as_signed(packet, public_key) is not None


def as_signed(packet: Packet, public_key: bytes) -> Packet | None:
    """The packet in the bytes that were signed with the key, 32 bytes, or ``None``.

    As a rule these are the bytes that came. Who passes a packet on passes on this: others may know
    no form but the signed one.
    """
    if packet.signature is None:
        return None
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
    except ValueError:
        return None
    for form in _forms(packet):
        try:
            key.verify(packet.signature, preimage(form))
        except InvalidSignature:
            continue
        return form
    return None


def _forms(packet: Packet) -> Iterator[Packet]:
    """The bytes that its sender may have made, the likely ones first."""
    yield packet
    flags = packet.wire[packets.FLAGS_AT]
    if packet.compressed and not flags & _UNKNOWN[packet.version]:
        for packed in (True, False):
            form = _again(packet, packed=packed)
            if form.wire != packet.wire:
                yield form


def _again(packet: Packet, *, packed: bool) -> Packet:
    """The same content in bytes of our own."""
    return packets.packet(
        packet.kind,
        packet.sender,
        packet.timestamp,
        packet.payload,
        ttl=packet.ttl,
        recipient=packet.recipient,
        route=packet.route,
        signature=packet.signature,
        version=packet.version,
        sync_answer=packet.sync_answer,
        packed=packed,
    )
