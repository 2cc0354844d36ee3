"""What a pipeline does with packets that nobody should have sent: the right reason, counted."""

from __future__ import annotations

import array
import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

import betanet
from tests.unit.betanet.chains import MAILBOX

P = 2**255 - 19
GEOMETRY = betanet.Geometry.native()


def packet_for(key: betanet.PublicKey, hops: int = 1) -> bytearray:
    path = [betanet.Hop(os.urandom(32), key) for _ in range(hops)]
    return bytearray(betanet.create_packet(path, MAILBOX, b"hello"))


def put(at: int, new: bytes) -> Callable[[bytearray], bytes]:
    return lambda packet: bytes(packet[:at] + new + packet[at + len(new) :])


BAD: dict[str, tuple[Callable[[bytearray], bytes], str]] = {
    "nothing": (lambda _: b"", "wrong_length"),
    "a byte short": (lambda packet: bytes(packet[:-1]), "wrong_length"),
    "a byte long": (lambda packet: bytes(packet) + b"\0", "wrong_length"),
    "10 MB": (lambda _: bytes(10_000_000), "wrong_length"),
    "version 0": (put(0, b"\0"), "unknown_version"),
    "version 2": (put(0, b"\2"), "unknown_version"),
    "parity 2": (put(1, b"\2"), "bad_parity"),
    "the other parity": (put(1, b"\1"), "bad_mac"),
    "α = p": (put(2, P.to_bytes(32, "little")), "bad_alpha"),
    "α = 2^255 - 1": (put(2, (2**255 - 1).to_bytes(32, "little")), "bad_alpha"),
    "α with its top bit": (put(33, b"\x80"), "bad_alpha"),
    "α = 0": (put(2, bytes(32)), "weak_secret"),
    "α = 1": (put(2, (1).to_bytes(32, "little")), "weak_secret"),
    "α = p - 1": (put(2, (P - 1).to_bytes(32, "little")), "weak_secret"),
    "γ": (put(34, bytes(16)), "bad_mac"),
    "β": (lambda packet: bytes([*packet[:392], packet[392] ^ 0xAA, *packet[393:]]), "bad_mac"),
    "δ": (put(GEOMETRY.packet_len - 8, b"\0" * 8), "bad_payload"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_packet_is_rejected_and_counted(name: str) -> None:
    damage, reason = BAD[name]
    with betanet.PacketPipeline(1) as pipeline:
        bad = damage(packet_for(pipeline.public_key))
        first, between, last = pipeline.process_batch([bad, packet_for(pipeline.public_key), bad])
        assert isinstance(first, betanet.RejectedPacket)
        assert isinstance(last, betanet.RejectedPacket)
        assert between.payload == b"hello"
        # A packet whose header is right is remembered before its payload is looked at.
        assert (first.reason, last.reason) == (reason, "replay" if name == "δ" else reason)
        stats = pipeline.get_stats()
        assert (stats.packets_processed, stats.packets_dropped) == (3, 2)


def test_every_flipped_bit_is_rejected() -> None:
    with betanet.PacketPipeline(2) as pipeline:
        good = packet_for(pipeline.public_key)
        altered = []
        for bit in range(8 * len(good)):
            packet = bytearray(good)
            packet[bit // 8] ^= 1 << bit % 8
            altered.append(packet)
        header = altered[: 8 * GEOMETRY.header_len]
        assert all(outcome.kind == "rejected" for outcome in pipeline.process_batch(header))
        assert pipeline.process_batch([good])[0].payload == b"hello", "none of them left a trace"
        stats = pipeline.get_stats()
        assert stats.packets_dropped == stats.packets_processed - 1 == len(header)
        # With δ altered it is still the packet that passed.
        for packet in altered[8 * GEOMETRY.header_len :: 61]:
            (outcome,) = pipeline.process_batch([packet])
            assert isinstance(outcome, betanet.RejectedPacket)
            assert outcome.reason == "replay"


def test_a_flipped_bit_of_the_payload_is_noise_at_the_last_hop() -> None:
    secret = betanet.SecretKey.generate()
    good = packet_for(secret.public)
    for bit in range(8 * GEOMETRY.header_len, 8 * len(good), 97):
        packet = bytearray(good)
        packet[bit // 8] ^= 1 << bit % 8
        with pytest.raises(betanet.BadPayload), betanet.SphinxProcessor(secret) as processor:
            processor.process_packet(packet)


def test_eight_identical_packets_pass_once_wherever_they_stand() -> None:
    with betanet.PacketPipeline(2) as pipeline:
        copy = packet_for(pipeline.public_key, hops=2)
        others = [packet_for(pipeline.public_key, hops=2) for _ in range(300)]
        batch = others[:10] + [copy] * 8 + others[10:]
        outcomes = pipeline.process_batch(batch)
        passed = [outcome.kind == "forward" for outcome in outcomes]
        assert sum(passed[10:18]) == 1
        assert all(passed[:10])
        assert all(passed[18:])
        stats = pipeline.get_stats()
        assert (stats.packets_processed, stats.packets_dropped) == (308, 7)


def test_a_next_hop_is_handed_out_whoever_that_is() -> None:
    """Whether a node with that id exists is not the packet's affair: the caller knows its links."""
    with betanet.PacketPipeline(1) as pipeline:
        packet = betanet.create_packet(
            [
                betanet.Hop(bytes(32), pipeline.public_key),
                betanet.Hop(b"?" * 32, pipeline.public_key),
            ],
            MAILBOX,
            b"",
        )
        (outcome,) = pipeline.process_batch([packet])
        assert outcome.next_hop == b"?" * 32


def test_a_flooded_pipeline_counts_what_it_took_and_nothing_else() -> None:
    with betanet.PacketPipeline(2, queue_depth=100) as pipeline:
        refused = 0
        for _ in range(1_000):
            try:
                pipeline.submit_packet(os.urandom(GEOMETRY.packet_len))
            except betanet.QueueFull:
                refused += 1
        assert refused == 900
        received = 0
        while received < 100:
            batch = pipeline.recv_batch(30, timeout=30.0)
            assert 0 < len(batch) <= 30
            received += len(batch)
        assert pipeline.recv_batch(timeout=30.0) == [], "no more can come: nothing to wait for"
        stats = pipeline.get_stats()
        assert (stats.packets_processed, stats.packets_dropped) == (100, 100)


@pytest.mark.parametrize("packets", [["text"], [None], "text", 7, [b"", 3]])
def test_what_is_no_list_of_packets_is_a_type_error_and_not_counted(packets: object) -> None:
    with betanet.PacketPipeline(1) as pipeline:
        with pytest.raises(TypeError):
            pipeline.process_batch(packets)  # type: ignore[arg-type]
        assert pipeline.get_stats().packets_processed == 0


def test_packets_are_created_together() -> None:
    secret = betanet.SecretKey.generate()
    hop = betanet.Hop(os.urandom(32), secret.public)
    payloads = [number.to_bytes(2) for number in range(70)]
    packets = betanet.create_packets([([hop], MAILBOX, payload) for payload in payloads], parity=1)
    assert {packet[1] for packet in packets} == {1}
    with betanet.PacketPipeline(1, secret) as pipeline:
        assert [outcome.payload for outcome in pipeline.process_batch(packets)] == payloads
    assert betanet.create_packets([]) == []


@pytest.mark.parametrize(
    ("hops", "length", "parity"), [(0, 0, 0), (8, 0, 0), (1, 2049, 0), (1, 0, 2)]
)
def test_of_packets_out_of_bounds_none_is_created(hops: int, length: int, parity: int) -> None:
    hop = betanet.Hop(os.urandom(32), betanet.SecretKey.generate().public)
    good = ([hop], MAILBOX, b"")
    with pytest.raises(betanet.BuildError):
        betanet.create_packets([good, ([hop] * hops, MAILBOX, bytes(length)), good], parity=parity)


def hop() -> betanet.Hop:
    return betanet.Hop(os.urandom(32), betanet.SecretKey.generate().public)


@pytest.mark.parametrize("length", [10**13, 2**62])
def test_what_says_it_is_long_is_not_believed(length: int) -> None:
    numbers: Any = range(length)
    with betanet.PacketPipeline(1) as pipeline, pytest.raises(TypeError, match="bytes-like"):
        pipeline.process_batch(numbers)
    with pytest.raises(TypeError):
        betanet.create_packet(numbers, MAILBOX, b"")
    with pytest.raises(TypeError):
        betanet.create_packets(numbers)
    with pytest.raises(TypeError):
        betanet.create_packets([(numbers, MAILBOX, b"")])
    with pytest.raises(TypeError):
        betanet.create_surb(numbers, MAILBOX)


@pytest.mark.parametrize("parity", [2, 255, 256, -1, 2**70])
def test_a_parity_that_is_no_bit_is_refused(parity: int) -> None:
    with pytest.raises(betanet.BuildError, match="parity"):
        betanet.create_packet([hop()], MAILBOX, b"", parity=parity)
    with pytest.raises(betanet.BuildError, match="parity"):
        betanet.create_surb([hop()], MAILBOX, parity=parity)


def test_whatever_shows_bytes_is_taken() -> None:
    key = betanet.SecretKey.generate()
    shown: list[Callable[[bytearray], Any]] = [
        lambda packet: array.array("b", bytes(packet)),
        lambda packet: memoryview(packet).cast("c"),
        lambda packet: memoryview(packet).cast("b"),
        lambda packet: (ctypes.c_int8 * len(packet)).from_buffer(packet),
    ]
    with betanet.SphinxProcessor(key) as processor:
        for show in shown:
            assert processor.process_packet(show(packet_for(key.public))).payload == b"hello"


def test_a_released_view_says_that_it_is_released() -> None:
    view = memoryview(b"packet")
    view.release()
    with betanet.SphinxProcessor() as processor, pytest.raises(ValueError, match="released"):
        processor.process_packet(view)


def test_a_closed_processor_holds_no_key() -> None:
    seed = os.urandom(32)
    processor = betanet.SphinxProcessor(seed)
    processor.close()
    assert seed[8:24] not in ctypes.string_at(id(processor), sys.getsizeof(processor))
