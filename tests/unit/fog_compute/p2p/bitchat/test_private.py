"""What travels inside a session, and pings: round trips, other implementations, and refusals."""

from __future__ import annotations

import bitchat_protocol as theirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.p2p.bitchat.wire.announce import Capability
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.ping import Ping
from fog_compute.p2p.bitchat.wire.private import (
    PeerState,
    PrivateKind,
    PrivateMessage,
    decode_id,
    encode_id,
    inside,
    within,
)
from fog_compute.p2p.bitchat.wire.tlv import field

STATE = PeerState(Capability.PREKEYS | Capability.LONG_SETS, bytes(range(32)))
short_texts = st.text(min_size=1, max_size=60)


@given(short_texts, st.text(max_size=60))
def test_private_messages_equal_those_of_another_implementation(name: str, body: str) -> None:
    # INV-BITCHAT-19
    ours = PrivateMessage(name, body)
    same = theirs.PrivateMessagePacket(name, body)

    assert ours.encode() == theirs.encode_private_message(same)
    assert theirs.decode_private_message(ours.encode()) == same
    assert PrivateMessage.decode(ours.encode()) == ours


def test_a_private_message_has_these_bytes() -> None:
    # INV-BITCHAT-19
    inner = within(PrivateKind.MESSAGE, PrivateMessage("id-1", "hi").encode())

    assert inner.hex() == "01000469642d3101026869"


@given(short_texts)
def test_no_prefix_of_a_private_message_is_one(body: str) -> None:
    # INV-BITCHAT-03
    data = PrivateMessage("id-1", body).encode()

    for size in range(len(data)):
        with pytest.raises(Malformed):
            PrivateMessage.decode(data[:size])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", Reason.MISSING),
        (field(0, b"id", 1), Reason.MISSING),
        (field(0, b"id", 1) + field(1, b"hi", 1) + field(2, b"", 1), Reason.FIELD),
        (field(0, b"id", 1) + field(1, b"\xff", 1), Reason.TEXT),
        (field(0, b"id", 1) + b"\1", Reason.TRUNCATED),
    ],
)
def test_what_is_no_private_message_is_refused(data: bytes, why: Reason) -> None:
    # INV-BITCHAT-19
    with pytest.raises(Malformed) as caught:
        PrivateMessage.decode(data)

    assert caught.value.reason is why


def test_texts_and_ids_beyond_255_bytes_are_refused() -> None:
    for message in (PrivateMessage("i", "ä" * 128), PrivateMessage("i" * 256, "")):
        with pytest.raises(Malformed):
            message.encode()
    for identifier in ("", "i" * 256, "\udc80"):
        with pytest.raises(Malformed):
            encode_id(identifier)
    assert len(PrivateMessage("i", "ä" * 127 + ".").encode()) == 3 + 2 + 255


def test_receipts_name_a_message() -> None:
    # INV-BITCHAT-19
    assert decode_id(encode_id("5F0C")) == "5F0C"
    for data in (b"", b"x" * 256, b"\xff"):
        with pytest.raises(Malformed):
            decode_id(data)


def test_the_kind_stands_in_front() -> None:
    # INV-BITCHAT-19
    assert inside(within(PrivateKind.READ, b"id")) == (PrivateKind.READ, b"id")
    assert inside(b"\x09file") == inside(b"\x20file") == (PrivateKind.FILE, b"file")
    assert inside(b"\x7f") == (0x7F, b"")
    with pytest.raises(Malformed):
        inside(b"")


def test_what_a_peer_says_of_itself_round_trips() -> None:
    assert PeerState.decode(STATE.encode()) == STATE
    assert PeerState.decode(STATE.encode() + field(9, b"later", 1)) == STATE


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", Reason.VERSION),
        (b"\2" + STATE.encode()[1:], Reason.VERSION),
        (b"\1", Reason.MISSING),
        (STATE.encode() + field(1, b"\1", 1), Reason.FIELD),
        (b"\1" + field(1, b"\1\0", 1) + field(2, b"k" * 32, 1), Reason.FIELD),
        (b"\1" + field(1, b"\1", 1) + field(2, b"k" * 31, 1), Reason.FIELD),
        (STATE.encode()[:-1], Reason.TRUNCATED),
    ],
)
def test_what_a_peer_cannot_say_of_itself_is_refused(data: bytes, why: Reason) -> None:
    with pytest.raises(Malformed) as caught:
        PeerState.decode(data)

    assert caught.value.reason is why


def test_a_peer_has_a_key_of_32_bytes() -> None:
    with pytest.raises(Malformed):
        PeerState(Capability.PREKEYS, b"short").encode()


def test_pings_say_how_far_they_came() -> None:
    # INV-BITCHAT-20
    ping = Ping(b"nonce..8", 7)

    assert ping.encode() == b"nonce..8\7"
    assert Ping.decode(ping.encode() + b"later") == ping
    assert (ping.hops(7), ping.hops(5), ping.hops(8)) == (1, 3, None)
    for size in range(9):
        with pytest.raises(Malformed):
            Ping.decode(ping.encode()[:size])
    for wrong in (Ping(b"short", 7), Ping(b"nonce..8", 256)):
        with pytest.raises(Malformed):
            wrong.encode()
