"""Announces: as another implementation has them, and believed only where they are signed."""

from __future__ import annotations

from random import Random

import bitchat_protocol as theirs
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.p2p.bitchat.wire.announce import Announce, Capability, peer_id, verified_announce
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet, packet
from fog_compute.p2p.bitchat.wire.signing import sign
from fog_compute.p2p.bitchat.wire.tlv import field

KEY = Ed25519PrivateKey.from_private_bytes(b"\3" * 32)
NOISE = bytes(range(32))
SIGNING = KEY.public_key().public_bytes_raw()
SOME = Announce("Ada", NOISE, SIGNING)

announces = st.builds(
    Announce,
    st.text(max_size=60),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.lists(st.binary(min_size=8, max_size=8), max_size=10).map(tuple),
    st.none() | st.integers(0, 2**64 - 1).map(Capability),
    st.none() | st.text("bcdefg0123", min_size=1, max_size=12),
)


def said(announce: Announce, *, sender: bytes | None = None, kind: Kind = Kind.ANNOUNCE) -> Packet:
    return sign(packet(kind, sender or peer_id(announce.noise_key), 1, announce.encode()), KEY)


def reason(payload: bytes) -> Reason:
    with pytest.raises(Malformed) as caught:
        Announce.decode(payload)
    return caught.value.reason


@given(announces)
def test_announces_round_trip_and_are_read_by_another_implementation(announce: Announce) -> None:
    # INV-BITCHAT-13
    payload = announce.encode()

    assert Announce.decode(payload) == announce
    read = theirs.decode_announcement(payload)
    assert read is not None
    assert read == theirs.AnnouncementPacket(
        announce.nickname,
        announce.noise_key,
        announce.signing_key,
        list(announce.neighbours) or None,
    )
    assert Announce.decode(theirs.encode_announcement(read)) == Announce(
        announce.nickname, announce.noise_key, announce.signing_key, announce.neighbours
    )


def test_an_announce_has_these_bytes() -> None:
    # INV-BITCHAT-13
    announce = Announce("Ada", NOISE, SIGNING, (b"12345678",), Capability(0x102), "u33")

    assert announce.encode() == (
        b"\x01\x03Ada\x02\x20" + NOISE + b"\x03\x20" + SIGNING + b"\x04\x0812345678"
        b"\x05\x02\x02\x01\x06\x03u33"
    )  # fmt: skip


def test_unknown_fields_are_passed_over_and_unknown_abilities_kept() -> None:
    # INV-BITCHAT-13
    payload = field(0x7F, b"later", 1) + SOME.encode() + field(5, b"\0\0\0\x80" + b"\1" * 9, 1)

    read = Announce.decode(payload)

    assert read.capabilities == 0x01010101_80000000
    assert Announce.decode(field(6, b"u" * 13, 1) + SOME.encode()).bridge is None
    assert Announce.decode(SOME.encode() + field(4, b"seven..", 1)).neighbours == ()
    many = Random(1).randbytes(31 * 8)
    assert len(Announce.decode(SOME.encode() + field(4, many, 1)).neighbours) == 10


@given(announces)
def test_prefixes_of_an_announce_lack_something(announce: Announce) -> None:
    # INV-BITCHAT-03
    payload = announce.encode()
    whole = len(Announce(announce.nickname, announce.noise_key, announce.signing_key).encode())

    for size in range(len(payload)):
        try:
            read = Announce.decode(payload[:size])
        except Malformed:
            continue
        # What comes behind the keys may be absent.
        assert size >= whole
        assert (read.nickname, read.signing_key) == (announce.nickname, announce.signing_key)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", Reason.MISSING),
        (field(1, b"Ada", 1), Reason.MISSING),
        (field(1, b"\xff", 1) + SOME.encode(), Reason.TEXT),
        (field(2, b"short", 1) + SOME.encode(), Reason.FIELD),
        (field(6, b"\xff", 1) + SOME.encode(), Reason.TEXT),
        (SOME.encode() + b"\1", Reason.TRUNCATED),
        (SOME.encode() + b"\1\5Ada", Reason.TRUNCATED),
    ],
)
def test_what_is_no_announce_is_refused(payload: bytes, why: Reason) -> None:
    # INV-BITCHAT-04
    assert reason(payload) is why


@pytest.mark.parametrize(
    "announce",
    [
        Announce("x" * 256, NOISE, SIGNING),
        Announce("Ada", b"short", SIGNING),
        Announce("Ada", NOISE, SIGNING, (b"short",)),
        Announce("Ada", NOISE, SIGNING, (b"12345678",) * 11),
        Announce("Ada", NOISE, SIGNING, bridge="u" * 13),
    ],
)
def test_what_does_not_fit_an_announce_is_refused(announce: Announce) -> None:
    with pytest.raises(Malformed):
        announce.encode()


def test_an_announce_is_believed_if_its_keys_fit_its_sender_and_its_signature() -> None:
    # INV-BITCHAT-14
    assert verified_announce(said(SOME)) == SOME

    forged = {
        Reason.FIELD: said(SOME, sender=b"somebody"),
        Reason.KIND: said(SOME, kind=Kind.MESSAGE),
        Reason.SIGNATURE: said(Announce("Ada", NOISE, b"\1" * 32)),
        Reason.MISSING: sign(packet(Kind.ANNOUNCE, peer_id(NOISE), 1, b""), KEY),
    }
    for why, one in forged.items():
        with pytest.raises(Malformed) as caught:
            verified_announce(one)
        assert caught.value.reason is why
