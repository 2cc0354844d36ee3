"""Ping and pong: how far away somebody is. Neither is signed; the nonce binds a pong to its ping.

8 bytes nonce, 1 byte the TTL with which the packet was sent; what follows is for later versions.

Source: ``BitFoundation/MeshPingPayload.swift`` of the app.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason

__all__ = ["NONCE_BYTES", "Ping"]

NONCE_BYTES: Final = 8


class Ping(msgspec.Struct, frozen=True):
    """The payload of a ping, and of the pong that answers it.

    Attributes:
        nonce: 8 random bytes; a pong has those of its ping.
        origin_ttl: the TTL with which the packet was sent.
    """

    nonce: bytes
    origin_ttl: int

    def encode(self) -> bytes:
        """Its 9 bytes.

        Raises:
            Malformed: the nonce has another length, or the TTL does not fit one byte.
        """
        if len(self.nonce) != NONCE_BYTES or not 0 <= self.origin_ttl <= 255:
            raise Malformed(Reason.FIELD, "a ping has a nonce of 8 bytes and a TTL up to 255")
        return self.nonce + bytes([self.origin_ttl])

    @classmethod
    def decode(cls, payload: bytes) -> Ping:
        """Read a ping or a pong.

        Raises:
            Malformed: it is too short.
        """
        if len(payload) <= NONCE_BYTES:
            raise Malformed(Reason.TRUNCATED, "a ping ends before its TTL")
        return cls(payload[:NONCE_BYTES], payload[NONCE_BYTES])

    def hops(self, ttl: int) -> int | None:
        """How many links it crossed if it came with this TTL; ``None`` if that cannot be."""
        return self.origin_ttl - ttl + 1 if ttl <= self.origin_ttl else None
