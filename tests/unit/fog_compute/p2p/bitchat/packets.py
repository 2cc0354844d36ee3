"""Packets at random, and what another implementation makes of them."""

from __future__ import annotations

from random import Random

import bitchat_protocol as theirs

from fog_compute.p2p.bitchat.wire.kinds import BROADCAST, Kind
from fog_compute.p2p.bitchat.wire.packet import Packet, packet

SENTENCE = b"the train stands still where the river bends and nobody knows when it goes on"
WORDS = SENTENCE.split()
KINDS = tuple(theirs.MessageType)
SENDER = bytes.fromhex("0011223344556677")


def text(rng: Random, size: int) -> bytes:
    """So many bytes of words, which DEFLATE shortens."""
    return b" ".join(rng.choices(WORDS, k=size // 3 + 1))[:size]


def payload(rng: Random) -> bytes:
    """Nothing, some bytes of anything, or words; around the rules' limits more often."""
    size = rng.choice((0, 1, rng.randrange(300), rng.randrange(90, 110), rng.randrange(250, 2_500)))
    return rng.randbytes(size) if rng.random() < 0.5 else text(rng, size)


def some_packet(rng: Random) -> Packet:
    """A packet with any of the fields that it may have."""
    version = rng.choice((1, 2))
    return packet(
        rng.choice(KINDS),
        rng.randbytes(8),
        rng.getrandbits(64),
        payload(rng),
        ttl=rng.randrange(256),
        recipient=rng.choice((None, BROADCAST, rng.randbytes(8))),
        route=tuple(rng.randbytes(8) for _ in range(rng.choice((0, 1, 3)))) if version == 2 else (),
        signature=rng.choice((None, rng.randbytes(64))),
        version=version,
        sync_answer=rng.random() < 0.2,
    )


def as_theirs(ours: Packet) -> theirs.BitchatPacket:
    """The same packet as a record of bitchat-protocol."""
    return theirs.BitchatPacket(
        version=ours.version,
        type=ours.kind,
        ttl=ours.ttl,
        timestamp=ours.timestamp,
        flags=0,
        sender_id=ours.sender,
        payload=ours.payload,
        recipient_id=ours.recipient,
        route=list(ours.route) or None,
        signature=ours.signature,
        is_rsr=ours.sync_answer,
    )


def hello(kind: int = Kind.MESSAGE, body: bytes = b"hello", **changed: object) -> Packet:
    """A small packet."""
    return packet(kind, SENDER, 1_700_000_000_000, body, **changed)  # type: ignore[arg-type]
