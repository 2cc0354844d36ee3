"""Messages to a group under the key of an epoch.

The payload of a packet of the kind ``GROUP_MESSAGE``, in fields of tag, length (2 bytes) and value:
01 the group's id (16), 02 epoch (4), 03 nonce (12), 04 ciphertext of ChaCha20-Poly1305 with id and
epoch as associated data. Inside: 01 message id, 02 the sender's signing key (32), 03 the sender's
nickname, 04 ms since 1970 (8), 05 text, 06 signature (64) over ``bitchat-group-msg-v1``, group id,
epoch, message id, time and text. Tags that are not known, and fields of a length that they cannot
have, are passed over.

Who is in a group, and its keys, say the rosters (`fog_compute.p2p.core.rosters`).

Source: ``Services/Groups/GroupProtocol.swift`` of the app.
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fog_compute.p2p.bitchat.wire.announce import KEY_BYTES
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.packet import SIGNATURE_BYTES
from fog_compute.p2p.bitchat.wire.signing import Signer
from fog_compute.p2p.bitchat.wire.tlv import field, fields, text, utf8

__all__ = ["NONCE_BYTES", "GroupEnvelope", "GroupMessage"]

GROUP_ID_BYTES: Final = 16
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
MESSAGE_DOMAIN: Final = b"bitchat-group-msg-v1"


class GroupEnvelope(msgspec.Struct, frozen=True):
    """A message to a group as others see it.

    Attributes:
        group_id: 16 bytes.
        epoch: under which of the group's keys it is sealed.
        nonce: 12 bytes.
        ciphertext: what only members read.
    """

    group_id: bytes
    epoch: int
    nonce: bytes
    ciphertext: bytes

    def encode(self) -> bytes:
        """The payload of a packet."""
        return b"".join(
            (
                field(1, self.group_id, 2),
                field(2, self.epoch.to_bytes(4, "big"), 2),
                field(3, self.nonce, 2),
                field(4, self.ciphertext, 2),
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> GroupEnvelope:
        """Read it; nothing is decrypted.

        Raises:
            Malformed: it is none.
        """
        lengths = {1: GROUP_ID_BYTES, 2: 4, 3: NONCE_BYTES}
        found = _found(payload, lengths, "a message to a group")
        if not {1, 2, 3, 4} <= found.keys() or len(found[4]) <= TAG_BYTES:
            raise Malformed(Reason.MISSING, "a message to a group lacks a part")
        return cls(found[1], int.from_bytes(found[2], "big"), found[3], found[4])

    def open(self, key: bytes) -> GroupMessage:
        """Decrypt it with the key of its epoch, 32 bytes, and check who wrote it.

        Whether the writer is a member, the caller looks.

        Raises:
            Malformed: the key is not that, or the writer did not sign it.
        """
        try:
            inner = ChaCha20Poly1305(key).decrypt(self.nonce, self.ciphertext, self.associated_data)
        except InvalidTag:
            raise Malformed(Reason.SIGNATURE, "a message to a group is of another key") from None
        lengths = {2: KEY_BYTES, 4: 8, 6: SIGNATURE_BYTES}
        found = _found(inner, lengths, "a message to a group")
        if not {1, 2, 3, 4, 5, 6} <= found.keys() or not found[1]:
            raise Malformed(Reason.MISSING, "a message to a group lacks a part")
        message = GroupMessage(
            text(found[1], "the id of a message to a group"),
            found[2],
            text(found[3], "the nickname in a message to a group"),
            int.from_bytes(found[4], "big"),
            text(found[5], "a message to a group"),
        )
        if not _signed(found[2], found[6], message.signed_form(self.group_id, self.epoch)):
            raise Malformed(Reason.SIGNATURE, "a message to a group is not signed by its writer")
        return message

    @property
    def associated_data(self) -> bytes:
        """What the ciphertext is bound to."""
        return self.group_id + self.epoch.to_bytes(4, "big")


class GroupMessage(msgspec.Struct, frozen=True):
    """A message to a group as its members see it.

    Attributes:
        id: names it.
        signing_key: of who wrote it.
        nickname: of who wrote it.
        created_ms: when.
        text: what.
    """

    id: str
    signing_key: bytes
    nickname: str
    created_ms: int
    text: str

    def signed_form(self, group_id: bytes, epoch: int) -> bytes:
        """What its writer signs."""
        return b"".join(
            (
                MESSAGE_DOMAIN,
                group_id,
                epoch.to_bytes(4, "big"),
                utf8(self.id, "the id of a message"),
                self.created_ms.to_bytes(8, "big"),
                utf8(self.text, "a message to a group"),
            )
        )

    def seal(
        self, group_id: bytes, epoch: int, key: bytes, nonce: bytes, signer: Signer
    ) -> GroupEnvelope:
        """Sign it, and encrypt it with the key of the epoch.

        Args:
            group_id: 16 bytes.
            epoch: its number.
            key: its key, 32 bytes.
            nonce: 12 bytes that were never used with it.
            signer: has the key of :attr:`signing_key`.

        Raises:
            Malformed: a part is too long.
        """
        inner = b"".join(
            (
                field(1, utf8(self.id, "the id of a message"), 2),
                field(2, self.signing_key, 2),
                field(3, utf8(self.nickname, "a nickname"), 2),
                field(4, self.created_ms.to_bytes(8, "big"), 2),
                field(5, utf8(self.text, "a message to a group"), 2),
                field(6, signer.sign(self.signed_form(group_id, epoch)), 2),
            )
        )
        bare = GroupEnvelope(group_id, epoch, nonce, b"")
        sealed = ChaCha20Poly1305(key).encrypt(nonce, inner, bare.associated_data)
        return msgspec.structs.replace(bare, ciphertext=sealed)


def _found(data: bytes, lengths: dict[int, int], what: str) -> dict[int, bytes]:
    """The fields by tag, without those of a length that they cannot have."""
    return {
        tag: value
        for tag, value in fields(data, 2, what)
        if len(value) == lengths.get(tag, len(value))
    }


def _signed(key: bytes, signature: bytes, data: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
