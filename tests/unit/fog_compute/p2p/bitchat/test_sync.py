"""Sets, and requests for what was missed: as others have them, and read in bounded time."""

from __future__ import annotations

import hashlib
from random import Random

import bitchat_protocol as theirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.gcs import MAX_FILTER, Filter, build
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.sync import SYNCED, SyncRequest, packet_id
from fog_compute.p2p.bitchat.wire.tlv import field
from tests.unit.fog_compute.p2p.bitchat.packets import SENDER, hello, text

SOME = Filter(7, 1_280, b"\x12\x34")


def ids(count: int, seed: int) -> list[bytes]:
    rng = Random(seed)
    return [rng.randbytes(16) for _ in range(count)]


requests = st.builds(
    SyncRequest,
    st.builds(Filter, st.integers(1, 32), st.integers(1, 2**32 - 1), st.binary(max_size=300)),
    st.none() | st.sets(st.sampled_from(SYNCED), min_size=1).map(frozenset),
    st.none() | st.integers(0, 2**64 - 1),
    st.none() | st.sets(st.binary(min_size=8, max_size=8), min_size=1, max_size=60).map(frozenset),
)


@given(requests)
def test_requests_equal_those_of_another_implementation(request: SyncRequest) -> None:
    # INV-BITCHAT-24
    data = request.encode()
    read = theirs.decode_request_sync(data)

    assert SyncRequest.decode(data) == request
    assert read is not None
    assert (read.p, read.m, read.data) == (request.has.p, request.has.m, request.has.data)
    assert read.since_timestamp == request.since_ms
    assert theirs.encode_request_sync(read) == data


def test_a_request_has_these_bytes() -> None:
    # INV-BITCHAT-24
    kinds = frozenset({Kind.ANNOUNCE, Kind.MESSAGE, Kind.GROUP_MESSAGE})
    request = SyncRequest(SOME, kinds, 1, frozenset({b"\xab" * 8, b"\1" * 8}))

    assert request.encode() == bytes.fromhex(
        "010001070200040000050003000212340400020304"
        "0500080000000000000001060021"
    ) + b"0101010101010101,abababababababab"  # fmt: skip


def test_what_is_not_known_in_a_request_is_passed_over() -> None:
    # INV-BITCHAT-24
    odd = (
        field(9, b"later", 2) + field(4, b"", 2) + field(5, b"\1", 2)
        + field(6, b"zz" * 8 + b",0102,," + b"ab" * 8 + b",\xff" + b"a" * 15, 2)
    )  # fmt: skip

    read = SyncRequest.decode(SyncRequest(SOME).encode() + odd)

    assert read == SyncRequest(SOME, fragments=frozenset({b"\xab" * 8}))
    bits = field(4, b"\x01\xf8\xff", 2)
    assert SyncRequest.decode(SyncRequest(SOME).encode() + bits).kinds == frozenset({Kind.ANNOUNCE})
    many = ",".join(f"{i:016x}" for i in range(100))
    named = SyncRequest.decode(SyncRequest(SOME).encode() + field(6, many[:1_000].encode(), 2))
    assert len(named.fragments or ()) == 58


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", Reason.MISSING),
        (field(1, b"\7", 2) + field(2, b"\0\0\0\5", 2), Reason.MISSING),
        (field(1, b"\0", 2) + field(2, b"\0\0\0\5", 2) + field(3, b"", 2), Reason.MISSING),
        (field(1, b"\7\7", 2) + field(2, b"\0\0\0\5", 2) + field(3, b"", 2), Reason.MISSING),
        (field(1, b"\7", 2) + field(2, b"\0\0\0\0", 2) + field(3, b"", 2), Reason.MISSING),
        (field(1, b"\x21", 2) + field(2, b"\0\0\0\5", 2) + field(3, b"", 2), Reason.FIELD),
        (
            field(1, b"\7", 2) + field(2, b"\0\0\0\5", 2) + field(3, b"x" * (MAX_FILTER + 1), 2),
            Reason.TOO_LONG,
        ),
        (SyncRequest(SOME).encode() + b"\6\0", Reason.TRUNCATED),
    ],
)
def test_what_is_no_request_is_refused(data: bytes, why: Reason) -> None:
    # INV-BITCHAT-04
    with pytest.raises(Malformed) as caught:
        SyncRequest.decode(data)

    assert caught.value.reason is why


@given(requests)
def test_prefixes_of_a_request_lack_something(request: SyncRequest) -> None:
    # INV-BITCHAT-03
    data = request.encode()
    whole = len(SyncRequest(request.has).encode())

    for size in range(len(data)):
        try:
            read = SyncRequest.decode(data[:size])
        except Malformed:
            continue
        assert size >= whole
        assert read.has == request.has


@pytest.mark.parametrize(
    "request_",
    [
        SyncRequest(SOME, since_ms=1 << 64),
        SyncRequest(SOME, fragments=frozenset({b"short"})),
        SyncRequest(SOME, fragments=frozenset(i.to_bytes(8, "big") for i in range(61))),
    ],
)
def test_what_does_not_fit_a_request_is_refused(request_: SyncRequest) -> None:
    with pytest.raises(Malformed):
        request_.encode()


@pytest.mark.parametrize("count", [0, 1, 2, 100, 355])
def test_what_is_in_a_set_is_found(count: int) -> None:
    # INV-BITCHAT-25
    known = ids(count, 1)

    made, included = build(known)
    members = made.members()

    assert included == count
    assert len(made.data) <= 400
    assert all(one in members for one in known)
    assert made.p == 7
    assert made.m == max(1, count << 7)


def test_what_does_not_fit_a_set_is_left_out_from_the_end() -> None:
    # INV-BITCHAT-25
    known = ids(5_000, 2)

    made, included = build(known, size=256)

    assert 200 < included < 256 * 8 // 9 + 1
    assert len(made.data) <= 256
    assert all(one in made.members() for one in known[:included])
    assert build(known, size=0) == (Filter(7, 128, b""), 0)


def test_something_else_is_taken_for_a_member_as_rarely_as_was_asked() -> None:
    # INV-BITCHAT-25
    for rate, bits in ((0.01, 7), (0.25, 2), (0.001, 10)):
        made, included = build(ids(150, 3), size=800, false_positives=rate)
        members = made.members()
        wrong = sum(one in members for one in ids(20_000, 4)) / 20_000

        assert (made.p, included) == (bits, 150)
        assert 0.3 * 2**-bits < wrong < 1.7 * 2**-bits


def bit_by_bit(given: Filter) -> set[int]:
    """The same set, read as the app's source does, one bit after another."""
    bits = [byte >> 7 - i & 1 for byte in given.data for i in range(8)]
    values: set[int] = set()
    at = total = 0
    while given.m > 1:
        quotient = 0
        while at < len(bits) and bits[at]:
            quotient += 1
            at += 1
        at += 1
        if at + given.p > len(bits):
            break
        remainder = 0
        for bit in bits[at : at + given.p]:
            remainder = remainder << 1 | bit
        at += given.p
        total += (quotient << given.p) + remainder + 1
        if total >= given.m:
            break
        values.add(total)
    return values


@given(st.integers(1, 32), st.integers(1, 2**32 - 1), st.binary(max_size=120))
def test_any_bytes_are_a_set_read_as_the_app_reads_it(p: int, m: int, data: bytes) -> None:
    # INV-BITCHAT-26
    made = Filter(p, m, data)

    assert made.members().values == bit_by_bit(made)


def test_the_largest_hostile_set_has_few_members() -> None:
    # INV-BITCHAT-26
    for p in (1, 7, 32):
        for byte in (b"\0", b"\xff", b"\xaa"):
            assert len(Filter(p, 2**32 - 1, byte * MAX_FILTER).members()) <= 4_096
    for p, m in ((0, 5), (33, 5), (7, 0), (7, 1 << 32)):
        with pytest.raises(Malformed):
            Filter(p, m, b"")


def test_a_packet_is_the_same_whatever_its_ttl_signature_and_compression() -> None:
    # INV-BITCHAT-27
    body = text(Random(5), 300)
    made = hello(body=body)

    expected = hashlib.sha256(b"\2" + SENDER + made.timestamp.to_bytes(8, "big") + body).digest()
    assert packet_id(made) == expected[:16]
    for same in (
        made.with_ttl(1),
        made.as_sync_answer(),
        hello(body=body, signature=b"s" * 64, packed=False),
        hello(body=body, version=2),
    ):
        assert packet_id(same) == packet_id(made)
    assert packet_id(hello(Kind.LEAVE, body)) != packet_id(made)
