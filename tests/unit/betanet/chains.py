"""Rows of nodes for the tests of packets."""

from __future__ import annotations

import os
from dataclasses import dataclass

import betanet

MAILBOX = bytes(range(16))


@dataclass(frozen=True)
class Chain:
    """Nodes in a row, and the path over them."""

    secrets: tuple[betanet.SecretKey, ...]
    path: tuple[betanet.Hop, ...]

    @classmethod
    def of(cls, hops: int) -> Chain:
        secrets = tuple(betanet.SecretKey.generate() for _ in range(hops))
        return cls(secrets, tuple(betanet.Hop(os.urandom(32), key.public) for key in secrets))

    def carry(self, packet: bytes) -> betanet.ProcessedPacket:
        """Unwrap at each node in turn; return what the last one finds."""
        *before, last = self.secrets
        for secret, following in zip(before, self.path[1:], strict=True):
            processed = betanet.SphinxProcessor(secret).process_packet(packet)
            assert processed.kind == "forward"
            assert processed.next_hop == following.node
            packet = processed.payload
        return betanet.SphinxProcessor(last).process_packet(packet)
