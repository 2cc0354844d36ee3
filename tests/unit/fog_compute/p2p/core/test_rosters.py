"""Rosters: the app's bytes, which only their maker signs, and none of which can be another."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import InvalidMessage
from fog_compute.p2p.core.rosters import MAX_MEMBERS, Member, Roster

ANN, BOB = (Identity(bytes([number]) * 32) for number in (1, 2))
GROUP = "0f" * 16
APP = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
ADA = Member("ad" * 32, APP.public_key().public_bytes_raw(), "Ada")
MEMBER = Member(BOB.fingerprint, BOB.signing_public, "Bob")
ROSTER = Roster.make(ANN, GROUP, "walkers", [MEMBER, ADA], 3, as_maker="Ann")


def field(tag: int, value: bytes) -> bytes:
    return bytes([tag]) + len(value).to_bytes(2, "big") + value


def by_the_app(
    *, signer: Ed25519PrivateKey = APP, people: bytes | None = None, name: bytes = b"trail crew"
) -> bytes:
    """A group's state as the app writes it, put together by hand."""
    group, key, epoch = bytes(range(16)), b"\x42" * 32, (7).to_bytes(4, "big")
    maker = bytes.fromhex(ADA.fingerprint)
    if people is None:
        people = b"\x02" + maker + ADA.signing_public + b"\x03Ada"
        people += bytes.fromhex(BOB.fingerprint) + BOB.signing_public + b"\x00"
    hashes = b"".join(hashlib.sha256(one).digest() for one in (key, people, name))
    signature = signer.sign(b"bitchat-group-v1" + group + epoch + hashes)
    values = (group, name, key, epoch, people, maker, signature)
    return b"".join(field(tag, value) for tag, value in enumerate(values, 1))


def test_a_roster_has_the_bytes_of_the_app() -> None:
    """INV-BITCHAT-33."""
    read = Roster.parse(by_the_app())

    assert (read.id, read.name, read.epoch) == (bytes(range(16)).hex(), "trail crew", 7)
    assert (read.maker, read.key) == (ADA.fingerprint, b"\x42" * 32)
    assert read.people == (ADA, Member(BOB.fingerprint, BOB.signing_public, ""))
    ours = Roster.make(BOB, GROUP, "us", [ADA], key=b"k" * 32, as_maker="Bob")
    people = b"\x02" + bytes.fromhex(BOB.fingerprint) + BOB.signing_public + b"\x03Bob"
    people += bytes.fromhex(ADA.fingerprint) + ADA.signing_public + b"\x03Ada"
    assert field(5, people) in ours.encoded
    assert ours.encoded.startswith(field(1, b"\x0f" * 16) + field(2, b"us") + field(3, b"k" * 32))


def test_a_roster_is_read_as_it_was_made_and_its_key_is_not_printed() -> None:
    """INV-P2P-11."""
    assert Roster.parse(ROSTER.encoded) == ROSTER
    assert ROSTER.people[0] == Member(ANN.fingerprint, ANN.signing_public, "Ann")
    assert ROSTER.member(ADA.fingerprint) == ROSTER.by_key(ADA.signing_public) == ADA
    assert ROSTER.member("00" * 32) is None
    assert ROSTER.key.hex() not in repr(ROSTER)
    assert str(ROSTER.key) not in repr(ROSTER)
    assert (MEMBER.is_derived, ADA.is_derived) == (True, False)
    assert not Member("00" * 32, bytes(32)).is_derived


def test_each_roster_has_a_key_of_its_own() -> None:
    """INV-P2P-11."""
    again = Roster.make(ANN, GROUP, "walkers", [MEMBER, ADA], 4)

    assert again.key != ROSTER.key
    assert len(again.key) == 32


def test_a_field_of_another_kind_or_length_is_passed_over() -> None:
    """INV-BITCHAT-33."""
    data = by_the_app()

    read = Roster.parse(data + field(9, b"later") + field(3, b"short"))
    assert msgspec.structs.replace(read, encoded=data) == Roster.parse(data)


@given(st.integers(0, len(ROSTER.encoded) * 8 - 1))
def test_no_bit_of_a_roster_can_be_another(bit: int) -> None:
    """INV-P2P-11, INV-BITCHAT-33."""
    broken = bytearray(ROSTER.encoded)
    broken[bit // 8] ^= 1 << bit % 8

    with pytest.raises(InvalidMessage):
        Roster.parse(bytes(broken))


def test_no_prefix_of_a_roster_is_one() -> None:
    """INV-BITCHAT-03."""
    for size in range(len(ROSTER.encoded)):
        with pytest.raises(InvalidMessage):
            Roster.parse(ROSTER.encoded[:size])


@given(st.binary(max_size=200))
def test_what_is_no_roster_is_refused(data: bytes) -> None:
    """INV-P2P-11."""
    for one in (data, by_the_app(people=data)):
        with pytest.raises(InvalidMessage):
            Roster.parse(one)


@pytest.mark.parametrize(
    "people",
    [
        b"\x00",
        b"\x11" + b"m" * 2_000,
        b"\x01" + b"m" * 64,
        b"\x01" + b"m" * 64 + b"\x03Ad",
        b"\x01" + bytes.fromhex(ADA.fingerprint) + ADA.signing_public + b"\x01\xff",
        b"\x01" + bytes.fromhex(ADA.fingerprint) + ADA.signing_public + b"\x00?",
        b"\x02" + 2 * (bytes.fromhex(ADA.fingerprint) + ADA.signing_public + b"\x00"),
        b"\x01" + b"m" * 32 + ADA.signing_public + b"\x00",
    ],
)
def test_a_roster_names_each_member_once_and_its_maker(people: bytes) -> None:
    """INV-BITCHAT-33: nobody has the signing key of another."""
    with pytest.raises(InvalidMessage):
        Roster.parse(by_the_app(people=people))


def test_a_roster_is_signed_by_its_maker_and_bounded() -> None:
    """INV-P2P-11."""
    other = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
    with pytest.raises(InvalidMessage, match="signed by its maker"):
        Roster.parse(by_the_app(signer=other))
    for wrong in ({"name": b"n" * 300}, {"name": b"\xff"}):
        with pytest.raises(InvalidMessage, match="a name in a roster"):
            Roster.parse(by_the_app(**wrong))  # type: ignore[arg-type]
    with pytest.raises(InvalidMessage, match="8192 bytes at most"):
        Roster.parse(by_the_app() + field(9, bytes(8_000)))


def test_a_group_is_bounded_and_of_people() -> None:
    """INV-P2P-11."""
    members = [Member(f"{number:064x}", bytes([number]) * 32, "é" * 70) for number in range(20)]
    full = Roster.make(ANN, GROUP, "x", members[1:MAX_MEMBERS])

    assert len(full.members) == MAX_MEMBERS
    assert {one.name for one in full.people[1:]} == {"é" * 32}
    with pytest.raises(InvalidMessage, match="16 members at most, and not 17"):
        Roster.make(ANN, GROUP, "x", members[:MAX_MEMBERS])
    for wrong in (Member("Bob", BOB.signing_public), Member(BOB.fingerprint, b"short")):
        with pytest.raises(InvalidMessage, match="a fingerprint of 64"):
            Roster.make(ANN, GROUP, "x", [wrong])
