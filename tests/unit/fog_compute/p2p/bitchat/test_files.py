"""Files and envelopes of couriers: round trips, golden bytes, and refusals."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.p2p.bitchat.wire.courier import (
    MAX_CIPHERTEXT,
    CourierEnvelope,
    day_of,
    recipient_tag,
    tags_around,
)
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.files import MAX_FILE, File
from fog_compute.p2p.bitchat.wire.tlv import field

KEY = bytes(range(32))
DAY = 86_400_000
SOME = CourierEnvelope(b"t" * 16, 0x0102030405060708, b"sealed")


@given(
    st.binary(min_size=1, max_size=300),
    st.none() | st.text(max_size=20),
    st.none() | st.text(max_size=20),
)
def test_files_round_trip_and_no_prefix_is_one(
    content: bytes, name: str | None, media_type: str | None
) -> None:
    # INV-BITCHAT-28
    file = File(content, name, media_type)
    data = file.encode()

    assert File.decode(data) == file
    for size in range(len(data)):
        with pytest.raises(Malformed):
            File.decode(data[:size])


def test_a_file_has_these_bytes() -> None:
    # INV-BITCHAT-28
    assert File(b"\1\2\3", "a.txt", "text/plain").encode() == (
        b"\1\0\5a.txt\2\0\4\0\0\0\3\3\0\x0atext/plain\4\0\0\0\3\1\2\3"
    )


def test_content_in_parts_and_unknown_fields_are_read() -> None:
    parts = field(4, b"one ", 4) + field(9, b"later", 2) + field(2, b"\0" * 8, 2)

    assert File.decode(parts + field(4, b"two", 4)) == File(b"one two")
    assert File.decode(parts + field(2, b"odd", 2)) == File(b"one ")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", Reason.MISSING),
        (field(4, b"", 4), Reason.MISSING),
        (field(2, b"\0\x10\0\1", 2) + field(4, b"x", 4), Reason.TOO_LONG),
        (field(4, b"x" * MAX_FILE, 4) + field(4, b"x", 4), Reason.TOO_LONG),
        (field(1, b"\xff", 2) + field(4, b"x", 4), Reason.TEXT),
        (field(3, b"\xff", 2) + field(4, b"x", 4), Reason.TEXT),
        (b"\4\0\0\0", Reason.TRUNCATED),
        (b"\4\xff\xff\xff\xffx", Reason.TRUNCATED),
    ],
)
def test_what_is_no_file_is_refused(data: bytes, why: Reason) -> None:
    # INV-BITCHAT-04
    with pytest.raises(Malformed) as caught:
        File.decode(data)

    assert caught.value.reason is why


def test_files_are_neither_empty_nor_above_1_mib() -> None:
    # INV-BITCHAT-28
    for content in (b"", b"x" * (MAX_FILE + 1)):
        with pytest.raises(Malformed):
            File(content).encode()
    with pytest.raises(Malformed):
        File(b"x", "n" * 65_536).encode()
    largest = File(b"x" * MAX_FILE)
    assert File.decode(largest.encode()) == largest


@pytest.mark.parametrize(
    ("name", "leaf"),
    [
        (None, "file"),
        ("", "file"),
        ("../../etc/passwd", "passwd"),
        ("..\\secret.txt", "secret.txt"),
        ("..", "file"),
        ("a\0b\x1b[2J.txt", "ab[2J.txt"),
        ("‮gpj.exe", "gpj.exe"),
        ("ä" * 80, "ä" * 50),
        (".profile", "profile"),
    ],
)
def test_a_name_of_a_stranger_reaches_no_folder(name: str | None, leaf: str) -> None:
    # INV-BITCHAT-29
    assert File(b"x", name).leaf == leaf


envelopes = st.builds(
    CourierEnvelope,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=1, max_size=200),
    st.integers(1, 8),
    st.none() | st.integers(0, 2**32 - 1),
)


@given(envelopes)
def test_envelopes_round_trip_and_prefixes_lack_something(envelope: CourierEnvelope) -> None:
    # INV-BITCHAT-30
    data = envelope.encode()
    whole = len(CourierEnvelope(envelope.tag, envelope.expires_ms, envelope.ciphertext).encode())

    assert CourierEnvelope.decode(data) == envelope
    for size in range(len(data)):
        try:
            read = CourierEnvelope.decode(data[:size])
        except Malformed:
            continue
        assert size >= whole
        assert read.ciphertext == envelope.ciphertext


def test_an_envelope_has_these_bytes() -> None:
    # INV-BITCHAT-30; copies are left out where there is one, as in the app's first format
    bare = b"\1\0\x10" + b"t" * 16 + b"\2\0\x08\1\2\3\4\5\6\7\x08" + b"\3\0\6sealed"

    assert SOME.encode() == bare
    assert SOME.with_copies(4).encode() == bare + b"\4\0\1\4"
    assert CourierEnvelope(*SOME_PARTS, prekey=7).encode() == bare + b"\5\0\4\0\0\0\7"
    assert CourierEnvelope.decode(bare + b"\x7f\0\2\xde\xad") == SOME


SOME_PARTS = (SOME.tag, SOME.expires_ms, SOME.ciphertext)


def test_copies_are_cut_to_their_bounds() -> None:
    # INV-BITCHAT-30
    assert (SOME.with_copies(0).copies, SOME.with_copies(200).copies) == (1, 8)
    assert CourierEnvelope.decode(SOME.encode() + b"\4\0\1\xff").copies == 8
    assert CourierEnvelope.decode(SOME.encode() + b"\4\0\1\0").copies == 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", Reason.MISSING),
        (field(1, b"short", 2), Reason.FIELD),
        (SOME.encode() + field(4, b"\1\1", 2), Reason.FIELD),
        (field(3, b"", 2) + SOME.encode()[:30], Reason.TOO_LONG),
        (SOME.encode()[:30] + field(3, b"x" * (MAX_CIPHERTEXT + 1), 2), Reason.TOO_LONG),
    ],
)
def test_what_is_no_envelope_is_refused(data: bytes, why: Reason) -> None:
    # INV-BITCHAT-04
    with pytest.raises(Malformed) as caught:
        CourierEnvelope.decode(data)

    assert caught.value.reason is why


@pytest.mark.parametrize(
    "envelope",
    [
        CourierEnvelope(b"short", 1, b"x"),
        CourierEnvelope(b"t" * 16, 1, b""),
        CourierEnvelope(b"t" * 16, 1, b"x" * (MAX_CIPHERTEXT + 1)),
        CourierEnvelope(b"t" * 16, 1, b"x", 9),
        CourierEnvelope(b"t" * 16, 1, b"x", 1, 1 << 32),
        CourierEnvelope(b"t" * 16, 1 << 64, b"x"),
    ],
)
def test_what_does_not_fit_an_envelope_is_refused(envelope: CourierEnvelope) -> None:
    with pytest.raises(Malformed):
        envelope.encode()


def test_tags_name_a_key_for_a_day() -> None:
    # INV-BITCHAT-31
    message = b"bitchat-courier-tag-v1" + (20_000).to_bytes(4, "big")
    expected = hmac.new(KEY, message, hashlib.sha256).digest()[:16]

    assert recipient_tag(KEY, 20_000) == expected
    assert recipient_tag(KEY, 20_001) != expected
    assert recipient_tag(bytes(32), 20_000) != expected
    assert day_of(20_000 * DAY) == day_of(20_001 * DAY - 1) == 20_000


def test_an_envelope_is_recognised_a_day_early_and_a_day_late() -> None:
    # INV-BITCHAT-31
    tag = recipient_tag(KEY, 20_000)

    for day, known in ((19_998, False), (19_999, True), (20_000, True), (20_001, True)):
        assert (tag in tags_around(KEY, day * DAY)) is known
    assert tag not in tags_around(KEY, 20_002 * DAY)
    assert len(tags_around(KEY, 0)) == len(tags_around(KEY, 1 << 70)) == 2
