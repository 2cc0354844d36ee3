"""Groups: what members read, what others cannot forge, and what is refused."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.groups import GroupEnvelope, GroupMessage, GroupState, Member
from fog_compute.p2p.bitchat.wire.tlv import field

SIGNER = Ed25519PrivateKey.from_private_bytes(b"\5" * 32)
SIGNING = SIGNER.public_key().public_bytes_raw()
GROUP = b"group id of 16 b"
KEY = bytes(range(32))
NONCE = b"nonce of 12."
SAID = GroupMessage("id-1", SIGNING, "Ada", 1_700_000_000_000, "at six")
SEALED = SAID.seal(GROUP, 3, KEY, NONCE, SIGNER)
ADA = Member(b"a" * 32, SIGNING, "Ada")
BOB = Member(b"b" * 32, b"k" * 32, "Bob")
STATE = GroupState(GROUP, "walkers", KEY, 3, (ADA, BOB), ADA.fingerprint).signed(SIGNER)


@given(st.text(min_size=1, max_size=20), st.text(max_size=20), st.text(max_size=200))
def test_members_read_what_was_written(name: str, nickname: str, body: str) -> None:
    # INV-BITCHAT-32
    said = GroupMessage(name, SIGNING, nickname, 5, body)

    sealed = GroupEnvelope.decode(said.seal(GROUP, 3, KEY, NONCE, SIGNER).encode())

    assert sealed.open(KEY) == said
    assert (sealed.group_id, sealed.epoch) == (GROUP, 3)


def test_a_message_to_a_group_is_bound_to_key_group_epoch_and_writer() -> None:
    # INV-BITCHAT-32
    other = Ed25519PrivateKey.from_private_bytes(b"\6" * 32)
    for sealed, key in (
        (SEALED, bytes(32)),
        (msgspec.structs.replace(SEALED, group_id=b"another group id"), KEY),
        (msgspec.structs.replace(SEALED, epoch=4), KEY),
        (msgspec.structs.replace(SEALED, ciphertext=SEALED.ciphertext[:-1] + b"?"), KEY),
        (SAID.seal(GROUP, 3, KEY, NONCE, other), KEY),
    ):
        with pytest.raises(Malformed) as caught:
            sealed.open(key)
        assert caught.value.reason is Reason.SIGNATURE


def test_no_prefix_of_a_message_to_a_group_is_one() -> None:
    # INV-BITCHAT-03
    data = SEALED.encode()

    assert GroupEnvelope.decode(data + field(9, b"later", 2)) == SEALED
    for size in range(len(data)):
        with pytest.raises(Malformed):
            GroupEnvelope.decode(data[:size])


def test_a_message_without_an_id_is_refused() -> None:
    with pytest.raises(Malformed) as caught:
        msgspec.structs.replace(SAID, id="").seal(GROUP, 3, KEY, NONCE, SIGNER).open(KEY)

    assert caught.value.reason is Reason.MISSING


def test_a_state_is_the_creators() -> None:
    # INV-BITCHAT-33
    read = GroupState.decode(STATE.encode())

    assert read == STATE
    assert read.verify()
    for forged in (
        {"name": "runners"},
        {"key": bytes(32)},
        {"epoch": 4},
        {"group_id": b"another group id"},
        {"members": (ADA,)},
        {"members": (BOB,)},
        {"creator": BOB.fingerprint},
    ):
        assert not msgspec.structs.replace(read, **forged).verify()


def test_no_prefix_of_a_state_is_one() -> None:
    # INV-BITCHAT-03
    data = STATE.encode()

    assert GroupState.decode(data + field(9, b"later", 2)) == STATE
    for size in range(len(data)):
        with pytest.raises(Malformed):
            GroupState.decode(data[:size])


def with_roster(roster: bytes) -> bytes:
    return STATE.encode() + field(5, roster, 2)


@pytest.mark.parametrize(
    ("roster", "why"),
    [
        (b"", Reason.FIELD),
        (b"\0", Reason.FIELD),
        (b"\x11" + b"m" * 2_000, Reason.FIELD),
        (b"\1" + b"m" * 64, Reason.TRUNCATED),
        (b"\1" + b"m" * 64 + b"\3Ad", Reason.TRUNCATED),
        (b"\1" + b"m" * 64 + b"\1\xff", Reason.TEXT),
        (b"\1" + b"m" * 64 + b"\3Ada?", Reason.FIELD),
    ],
)
def test_what_is_no_roster_is_refused(roster: bytes, why: Reason) -> None:
    # INV-BITCHAT-04
    with pytest.raises(Malformed) as caught:
        GroupState.decode(with_roster(roster))

    assert caught.value.reason is why


def test_a_group_has_up_to_16_members_with_keys_and_short_names() -> None:
    # INV-BITCHAT-33
    many = tuple(Member(bytes([i]) * 32, SIGNING, "é" * 70) for i in range(16))
    full = GroupState(GROUP, "all", KEY, 1, many, many[0].fingerprint).signed(SIGNER)

    read = GroupState.decode(full.encode())

    assert read.verify()
    assert {one.nickname for one in read.members} == {"é" * 32}
    for wrong in ((*many, ADA), (Member(b"short", SIGNING, ""),)):
        with pytest.raises(Malformed):
            GroupState(GROUP, "all", KEY, 1, wrong, ADA.fingerprint, b"s" * 64).encode()
