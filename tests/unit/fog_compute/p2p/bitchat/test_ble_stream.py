"""Packets that came over a link in pieces."""

from __future__ import annotations

from random import Random

import pytest

from fog_compute.p2p.bitchat.ble_stream import FrameStream
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import decode, packet


def wire(rng: Random, size: int, version: int = 1, route: int = 0) -> bytes:
    return packet(
        Kind.MESSAGE,
        rng.randbytes(8),
        rng.getrandbits(40),
        rng.randbytes(size),
        recipient=rng.randbytes(8) if rng.random() < 0.5 else None,
        signature=rng.randbytes(64) if rng.random() < 0.5 else None,
        version=version,
        route=tuple(rng.randbytes(8) for _ in range(route)),
    ).wire


@pytest.mark.parametrize("seed", range(30))
def test_packets_come_out_as_they_were_however_they_were_cut(seed: int) -> None:
    # INV-BITCHAT-70
    rng, stream = Random(seed), FrameStream()
    for _ in range(20):
        version = rng.choice((1, 2))
        route = rng.randrange(3) if version == 2 else 0
        sent = wire(rng, rng.randrange(1_500), version, route)
        piece = rng.randrange(60, 600)
        came = [
            frame
            for at in range(0, len(sent), piece)
            for frame in stream.take(sent[at : at + piece], 5.0)
        ]
        assert came == [sent], f"seed {seed}"
    assert stream.given_up == 0


def test_padding_stays_with_its_packet_and_two_packets_come_apart() -> None:
    rng, stream = Random(1), FrameStream()
    first, second = wire(rng, 50), wire(rng, 70)
    padded = first + bytes([100] * 100)
    assert stream.take(padded, 0.0) == [padded]
    assert decode(padded).wire == first
    assert stream.take(first + second, 0.0) == [first, second]
    assert stream.take(first + second[:60], 0.0) == [first]
    assert stream.take(second[60:], 0.0) == [second]


def test_end_that_never_comes_costs_that_packet_alone() -> None:
    # INV-BITCHAT-70
    rng, stream = Random(2), FrameStream()
    lost, next_one = wire(rng, 700), wire(rng, 80)
    assert stream.take(lost[:300], 10.0) == []
    assert stream.take(next_one, 13.0) == [next_one]
    assert stream.given_up == 1


def test_what_is_no_packet_is_handed_on_to_be_counted_and_held_by_nobody() -> None:
    rng, stream = Random(3), FrameStream()
    for size in (0, 1, 21, 22, 500):
        data = bytes([9]) * size
        assert stream.take(data, 0.0) == ([data] if data else [])
    huge = bytearray(wire(rng, 60, version=2))
    huge[12:16] = (1 << 20).to_bytes(4)
    assert stream.take(bytes(huge), 0.0) == [bytes(huge)]
    for _ in range(2_000):
        data = rng.choice((b"\x01", b"\x02")) + rng.randbytes(rng.randrange(100))
        stream.take(data, 0.0)
    assert len(stream._held) <= 64 * 1_024 + 100
