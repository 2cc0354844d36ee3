"""Groups: what members read, what others cannot forge, and what is refused."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.groups import GroupEnvelope, GroupMessage
from fog_compute.p2p.bitchat.wire.tlv import field

SIGNER = Ed25519PrivateKey.from_private_bytes(b"\5" * 32)
SIGNING = SIGNER.public_key().public_bytes_raw()
GROUP = b"group id of 16 b"
KEY = bytes(range(32))
NONCE = b"nonce of 12."
SAID = GroupMessage("id-1", SIGNING, "Ada", 1_700_000_000_000, "at six")
SEALED = SAID.seal(GROUP, 3, KEY, NONCE, SIGNER)


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
