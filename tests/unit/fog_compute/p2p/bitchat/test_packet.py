"""Packets: as another implementation has them, and refused where they are none."""

from __future__ import annotations

import contextlib
import zlib
from random import Random

import bitchat_protocol as theirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.p2p.bitchat.wire import compression
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.kinds import BROADCAST, PADDED, UNPACKED, Kind
from fog_compute.p2p.bitchat.wire.packet import (
    MAX_PAYLOAD,
    MAX_PLAIN,
    Packet,
    decode,
    packet,
    wire_length,
)
from fog_compute.p2p.bitchat.wire.padding import BUCKETS, pad, unpad
from tests.unit.fog_compute.p2p.bitchat.packets import (
    SENDER,
    as_theirs,
    hello,
    payload,
    some_packet,
    text,
)

TEXT = text(Random(1), 400)


def reason(data: bytes) -> Reason:
    with pytest.raises(Malformed) as caught:
        decode(data)
    return caught.value.reason


def equal_both_ways(count: int, seed: int) -> int:
    """Compare packets with bitchat-protocol's; how many of them had the same bytes in both."""
    rng = Random(seed)
    same = 0
    for _ in range(count):
        ours = some_packet(rng)
        their_wire = theirs.encode(as_theirs(ours))
        read = theirs.decode(ours.wire)
        assert read is not None, (seed, ours)
        read.flags = 0
        assert read == as_theirs(ours), (seed, ours)
        back = decode(their_wire)
        assert as_theirs(back) == as_theirs(ours), (seed, ours)
        if ours.wire == their_wire:
            same += 1
        else:
            # They compress what is longer than 256 bytes, whatever is in it.
            assert len(ours.payload) >= 100, (seed, ours)
    return same


def test_packets_equal_those_of_bitchat_protocol_both_ways() -> None:
    # INV-BITCHAT-01
    assert equal_both_ways(2_000, seed=7) > 1_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_thousand_packets_equal_those_of_bitchat_protocol() -> None:
    # INV-BITCHAT-01
    assert equal_both_ways(100_000, seed=8) > 50_000


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (  # version 1, to everybody
            "0102070000018bcfe56800000005001122334455667768656c6c6f",
            hello(),
        ),
        (  # version 2, with a recipient, a route and a signature
            "0202070000018bcfe568000b000000050011223344556677"
            "8899aabbccddeeff020101010101010101020202020202020268656c6c6f"
            + "5a" * 64,
            hello(
                version=2,
                recipient=bytes.fromhex("8899aabbccddeeff"),
                route=(b"\1" * 8, b"\2" * 8),
                signature=b"\x5a" * 64,
            ),
        ),
    ],
)  # fmt: skip
def test_packets_have_these_bytes(wire: str, expected: Packet) -> None:
    # INV-BITCHAT-01; the shapes of the app's ClientRewriteWireContractTest, the bytes our own
    data = bytes.fromhex(wire)

    assert expected.wire == data == theirs.encode(as_theirs(expected))
    assert decode(data) == expected


@given(st.integers(0, 2**32))
def test_what_is_made_is_read_again(seed: int) -> None:
    # INV-BITCHAT-02
    made = some_packet(Random(seed))

    assert decode(made.wire) == made
    assert decode(pad(made.wire)) == made
    assert wire_length(made.wire) == wire_length(pad(made.wire)) == len(made.wire)


@given(st.integers(0, 2**32))
def test_no_prefix_of_a_packet_is_one(seed: int) -> None:
    # INV-BITCHAT-03
    made = some_packet(Random(seed))

    for size in range(len(made.wire)):
        assert reason(made.wire[:size]) is Reason.TRUNCATED
        assert wire_length(made.wire[:size]) in (None, len(made.wire))


@pytest.mark.parametrize("kind", Kind)
def test_no_prefix_of_a_packet_of_any_kind_is_one(kind: Kind) -> None:
    # INV-BITCHAT-03
    for version in (1, 2):
        made = hello(kind, TEXT, version=version, recipient=BROADCAST, signature=b"s" * 64)

        for size in range(len(made.wire)):
            assert reason(made.wire[:size]) is Reason.TRUNCATED


@given(st.binary(max_size=200))
def test_bytes_of_a_stranger_are_a_packet_or_malformed(data: bytes) -> None:
    # INV-BITCHAT-04
    for read in (decode, wire_length):
        with contextlib.suppress(Malformed):
            read(data)


@given(st.binary(max_size=200))
def test_to_take_padding_away_first_reads_no_more(data: bytes) -> None:
    # INV-BITCHAT-02: why there is one try, and not the app's two
    try:
        decode(unpad(data))
    except Malformed:
        pass
    else:
        decode(data)


def test_other_versions_are_refused() -> None:
    for version in (0, 3, 255):
        data = bytes([version]) + hello().wire[1:]

        assert reason(data) is Reason.VERSION
        with pytest.raises(Malformed):
            wire_length(data)


def test_a_length_above_the_largest_file_is_refused_before_it_is_there() -> None:
    # INV-BITCHAT-05
    for kind, most in ((Kind.FILE_TRANSFER, MAX_PAYLOAD), (Kind.MESSAGE, MAX_PLAIN)):
        wire = bytearray(hello(kind, version=2).wire)
        wire[12:16] = (most + 1).to_bytes(4, "big")

        assert reason(bytes(wire)) is Reason.TOO_LONG
        with pytest.raises(Malformed):
            wire_length(bytes(wire))


def test_a_route_flag_in_version_1_is_ignored() -> None:
    wire = bytearray(hello().wire)
    wire[11] |= 0x08

    assert decode(bytes(wire)).payload == b"hello"


def test_a_relay_changes_the_ttl_and_nothing_else() -> None:
    # INV-BITCHAT-06
    came = decode(hello(body=TEXT, ttl=5, signature=b"s" * 64).wire)

    goes = came.with_ttl(4)

    assert goes.wire == came.wire[:2] + b"\4" + came.wire[3:]
    assert decode(goes.wire) == goes


def test_a_sync_answer_goes_no_further() -> None:
    answer = hello(ttl=5).as_sync_answer()

    assert (answer.ttl, answer.sync_answer) == (0, True)
    assert decode(answer.wire) == answer == hello(ttl=0, sync_answer=True)


def test_everybody_is_no_recipient_or_eight_times_ff() -> None:
    assert not hello().directed
    assert not hello(recipient=BROADCAST).directed
    assert hello(recipient=SENDER).directed


@pytest.mark.parametrize("kind", Kind)
def test_ciphertext_and_fragments_are_not_compressed(kind: Kind) -> None:
    # INV-BITCHAT-08
    assert bool(hello(kind, TEXT).wire[11] & 0x04) is (kind not in UNPACKED)


@pytest.mark.parametrize("kind", Kind)
def test_only_noise_is_padded_on_the_air(kind: Kind) -> None:
    # INV-BITCHAT-07
    made = hello(kind)

    assert len(made.on_air) == (256 if kind in PADDED else len(made.wire))
    assert decode(made.on_air) == made


@pytest.mark.parametrize(
    ("size", "padded"),
    [(1, 256), (240, 256), (241, 241), (257, 512), (496, 512), (497, 497), (768, 768),
     (769, 1024), (1_008, 1_024), (1_793, 2_048), (2_033, 2_033), (5_000, 5_000)],
)  # fmt: skip
def test_padding_fills_a_bucket_or_is_left_out(size: int, padded: int) -> None:
    # INV-BITCHAT-07
    data = b"\0" * size

    assert len(pad(data)) == padded
    assert unpad(pad(data)) == data
    assert padded == size or padded in BUCKETS


def test_what_is_no_padding_stays() -> None:
    for data in (b"", b"\0", b"\1\2\2\3", b"\5\5"):
        assert unpad(data) == data


@pytest.mark.parametrize(
    ("data", "packed"),
    [
        (b"a" * 99, False),
        (b"a" * 100, True),
        (bytes(range(90)) + b"a" * 10, False),  # 90 different values of 100
        (bytes(range(89)) + b"a" * 11, False),  # 89, but not shorter
        (TEXT, True),
        (Random(2).randbytes(4_000), False),  # all 256 values
    ],
)
def test_compression_follows_the_rule_of_the_app(data: bytes, packed: bool) -> None:
    # INV-BITCHAT-08
    made = hello(body=data)

    assert bool(made.wire[11] & 0x04) is packed
    assert (len(made.wire) < 22 + len(data)) is packed
    assert decode(made.wire).payload == data


def with_compressed(body: bytes, size: int, version: int = 1) -> bytes:
    """A packet whose payload is said to be DEFLATE."""
    wide = 2 * version
    made = packet(
        Kind.FILE_TRANSFER,
        SENDER,
        1,
        size.to_bytes(wide, "big") + body,
        version=version,
        packed=False,
    )
    return made.wire[:11] + b"\4" + made.wire[12:]


def test_zlib_with_its_header_is_read_too() -> None:
    # INV-BITCHAT-08
    assert decode(with_compressed(zlib.compress(TEXT), len(TEXT))).payload == TEXT


def test_a_bomb_makes_no_more_bytes_than_it_says() -> None:
    # INV-BITCHAT-05
    million = b"\0" * 1_000_000
    bomb = compression.compress(million)
    assert bomb is not None
    assert len(bomb) < 1_100

    for size in (1, 500, len(million) - 1, len(million) + 1):
        assert reason(with_compressed(bomb, size, version=2)) is Reason.COMPRESSION
    assert reason(with_compressed(b"\1" * 9, 1 << 20, version=2)) is Reason.COMPRESSION
    assert reason(with_compressed(bomb, MAX_PAYLOAD + 1, version=2)) is Reason.TOO_LONG
    assert decode(with_compressed(bomb, len(million), version=2)).payload == million


def test_deflate_that_ends_early_or_goes_on_is_refused() -> None:
    deflated = compression.compress(TEXT)
    assert deflated is not None

    for body in (deflated[:-1], deflated + b"\0", b"\xff" * 40):
        assert reason(with_compressed(body, len(TEXT))) is Reason.COMPRESSION
    assert reason(with_compressed(b"", len(TEXT))) is Reason.TRUNCATED
    assert reason(with_compressed(deflated, 0)) is Reason.COMPRESSION


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"version": 3}, Reason.VERSION),
        ({"ttl": 256}, Reason.FIELD),
        ({"kind": 256}, Reason.FIELD),
        ({"recipient": b"short"}, Reason.FIELD),
        ({"signature": b"short"}, Reason.FIELD),
        ({"route": (b"8" * 8,)}, Reason.TOO_LONG),
        ({"route": (b"8" * 8,) * 256, "version": 2}, Reason.TOO_LONG),
        ({"body": b"\0" * 65_536}, Reason.TOO_LONG),
        ({"body": b"\0" * 65_536, "version": 2}, Reason.TOO_LONG),
        ({"body": Random(4).randbytes(65_000).replace(b"\xff", b"") * 2, "version": 1},
         Reason.TOO_LONG),
    ],
)  # fmt: skip
def test_what_has_no_bytes_is_refused(changed: dict[str, object], why: Reason) -> None:
    with pytest.raises(Malformed) as caught:
        hello(**changed)  # type: ignore[arg-type]

    assert caught.value.reason is why


def test_few_enough_values_leave_room_for_the_size_of_what_was_compressed() -> None:
    body = Random(9).randbytes(90_000).translate(None, bytes(range(230, 256)))[:65_535]

    made = hello(body=body)

    assert len(set(body)) == 230
    assert made.compressed
    assert 65_535 - len(made.wire) + 24 > 500
    assert decode(made.wire).payload == body


def test_the_largest_payloads_fit() -> None:
    rng = Random(5)
    for kind, version, size in (
        (Kind.MESSAGE, 1, 65_535),
        (Kind.MESSAGE, 2, 65_535),
        (Kind.FILE_TRANSFER, 2, 1 << 20),
    ):
        made = hello(kind, rng.randbytes(size), version=version)
        assert decode(made.wire) == made
    assert payload(Random(6)) is not None
