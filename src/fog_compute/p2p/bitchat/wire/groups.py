"""Groups of up to 16: a state that the creator signs, and messages under the key of an epoch.

All of them are fields of tag, length (2 bytes) and value; tags that are not known, and fields of a
length that they cannot have, are passed over.

The payload of a packet of the kind ``GROUP_MESSAGE``: 01 the group's id (16), 02 epoch (4), 03
nonce (12), 04 ciphertext of ChaCha20-Poly1305 with id and epoch as associated data. Inside: 01
message id, 02 the sender's signing key (32), 03 the sender's nickname, 04 ms since 1970 (8), 05
text, 06 signature (64) over ``bitchat-group-msg-v1``, group id, epoch, message id, time and text.

The state, inside Noise as an invitation or with a new key: 01 group id (16), 02 name, 03 key (32),
04 epoch (4), 05 roster, 06 the creator's fingerprint (32), 07 signature (64) over
``bitchat-group-v1``, group id, epoch, and SHA-256 of key, roster and name. The roster: number of
members (1 byte), and of each fingerprint (32), signing key (32), length of the nickname (1 byte),
nickname of up to 64 bytes. The creator's signing key is the one in the roster; whoever takes a
state looks that it came over the creator's session.

Source: ``Services/Groups/GroupProtocol.swift`` of the app.
"""

from __future__ import annotations

import hashlib
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

__all__ = [
    "GROUP_ID_BYTES",
    "MAX_MEMBERS",
    "GroupEnvelope",
    "GroupMessage",
    "GroupState",
    "Member",
]

MAX_MEMBERS: Final = 16
GROUP_ID_BYTES: Final = 16
FINGERPRINT_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
MAX_NICKNAME: Final = 64
MESSAGE_DOMAIN: Final = b"bitchat-group-msg-v1"
STATE_DOMAIN: Final = b"bitchat-group-v1"


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


class Member(msgspec.Struct, frozen=True):
    """Who is in a group.

    Attributes:
        fingerprint: SHA-256 of the Noise key, 32 bytes.
        signing_key: Ed25519.
        nickname: when they were invited.
    """

    fingerprint: bytes
    signing_key: bytes
    nickname: str


class GroupState(msgspec.Struct, frozen=True):
    """A group, as its creator says it is.

    Attributes:
        group_id: 16 random bytes.
        name: for people.
        key: of this epoch, 32 bytes.
        epoch: grows with each key.
        members: up to 16.
        creator: fingerprint of who signs it, 32 bytes.
        signature: 64 bytes; see :meth:`signed`.
    """

    group_id: bytes
    name: str
    key: bytes
    epoch: int
    members: tuple[Member, ...]
    creator: bytes
    signature: bytes = b""

    def signed(self, signer: Signer) -> GroupState:
        """The same state with the creator's signature."""
        return msgspec.structs.replace(self, signature=signer.sign(self._signed_form()))

    def verify(self) -> bool:
        """Whether the creator is in the roster, and signed it with the key that is there."""
        for member in self.members:
            if member.fingerprint == self.creator:
                return _signed(member.signing_key, self.signature, self._signed_form())
        return False

    def encode(self) -> bytes:
        """What follows the kind inside Noise.

        Raises:
            Malformed: it has too many members, or a part is too long.
        """
        return b"".join(
            (
                field(1, self.group_id, 2),
                field(2, utf8(self.name, "the name of a group"), 2),
                field(3, self.key, 2),
                field(4, self.epoch.to_bytes(4, "big"), 2),
                field(5, _encode_roster(self.members), 2),
                field(6, self.creator, 2),
                field(7, self.signature, 2),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> GroupState:
        """Read a state; :meth:`verify` says whether its creator signed it.

        Raises:
            Malformed: it is none.
        """
        lengths = {
            1: GROUP_ID_BYTES,
            3: KEY_BYTES,
            4: 4,
            6: FINGERPRINT_BYTES,
            7: SIGNATURE_BYTES,
        }
        found = _found(data, lengths, "a group's state")
        if not {1, 2, 3, 4, 5, 6, 7} <= found.keys():
            raise Malformed(Reason.MISSING, "a group's state lacks a part")
        return cls(
            found[1],
            text(found[2], "the name of a group"),
            found[3],
            int.from_bytes(found[4], "big"),
            _decode_roster(found[5]),
            found[6],
            found[7],
        )

    def _signed_form(self) -> bytes:
        parts = (self.key, _encode_roster(self.members), utf8(self.name, "the name of a group"))
        return b"".join(
            (
                STATE_DOMAIN,
                self.group_id,
                self.epoch.to_bytes(4, "big"),
                *(hashlib.sha256(part).digest() for part in parts),
            )
        )


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


def _encode_roster(members: tuple[Member, ...]) -> bytes:
    if len(members) > MAX_MEMBERS:
        raise Malformed(Reason.TOO_LONG, f"a group has up to {MAX_MEMBERS} members")
    parts = [bytes([len(members)])]
    for member in members:
        # Whole characters alone, so that what is left is UTF-8.
        nickname = (
            utf8(member.nickname, "a nickname")[:MAX_NICKNAME].decode(errors="ignore").encode()
        )
        if len(member.fingerprint) != FINGERPRINT_BYTES or len(member.signing_key) != KEY_BYTES:
            raise Malformed(Reason.FIELD, "a member has a fingerprint and a key of 32 bytes")
        parts += (member.fingerprint, member.signing_key, bytes([len(nickname)]), nickname)
    return b"".join(parts)


def _decode_roster(data: bytes) -> tuple[Member, ...]:
    if not data or not 0 < data[0] <= MAX_MEMBERS:
        raise Malformed(Reason.FIELD, f"a group has 1 to {MAX_MEMBERS} members")
    members: list[Member] = []
    at = 1
    for _ in range(data[0]):
        name = at + FINGERPRINT_BYTES + KEY_BYTES + 1
        end = name + (data[name - 1] if name <= len(data) else 0)
        if end > len(data) or name > len(data):
            raise Malformed(Reason.TRUNCATED, "a roster ends within a member")
        members.append(
            Member(
                data[at : at + FINGERPRINT_BYTES],
                data[at + FINGERPRINT_BYTES : name - 1],
                text(data[name:end], "a nickname in a roster"),
            )
        )
        at = end
    if at != len(data):
        raise Malformed(Reason.FIELD, "a roster goes on behind its last member")
    return tuple(members)
