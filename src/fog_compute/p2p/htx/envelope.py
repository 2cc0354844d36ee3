"""What travels over HTX: one message, signed by its sender for one recipient.

MessagePack, an array: version, the sender's signing key, signature, header, body. The header is an
array, too, in its own bytes: all of the message but sender and body, and the sender's card. The
signature is Ed25519 over ``fog-envelope-v1`` ‖ 00 ‖ recipient's fingerprint (32 bytes) ‖
SHA-256(header) ‖ SHA-256(body). So an envelope cannot be turned to somebody else, and says by
itself who sent it: the fingerprint follows from the signing key. The mixnet seals it.

The same message for the same recipient gives the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fog_compute.errors import FogError
from fog_compute.p2p.core.cards import CardInvalid, ContactCard
from fog_compute.p2p.core.identity import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    Identity,
    fingerprint_of,
    is_fingerprint,
    noise_key_of,
    verifies,
)
from fog_compute.p2p.core.messages import (
    MAX_BODY_BYTES,
    DecentralizedMessage,
    InvalidMessage,
    MessageKind,
    Priority,
)

__all__ = [
    "MAX_ENVELOPE_BYTES",
    "EnvelopeInvalid",
    "Opened",
    "mixnet_id",
    "open_envelope",
    "seal_envelope",
]

MAX_HEADER_BYTES: Final = 4096
MAX_ENVELOPE_BYTES: Final = MAX_BODY_BYTES + MAX_HEADER_BYTES + 256
VERSION: Final = 1

CARDS: Final = 256
"""Cards that were read lately, of up to 4 KiB each."""

_CONTEXT: Final = b"fog-envelope-v1\x00"
_ID_CONTEXT: Final = b"fog-mixnet-id-v1\x00"
_MAX_MS: Final = 2**53


class EnvelopeInvalid(FogError, ValueError):
    """Bytes are no envelope, not for this recipient, or not signed by who they say.

    Attributes:
        reason: one word, for counting.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason: Final = reason


class _Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    key: Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
    header: Annotated[bytes, Meta(max_length=MAX_HEADER_BYTES)]
    body: Annotated[bytes, Meta(max_length=MAX_BODY_BYTES)]


class _Header(msgspec.Struct, frozen=True, array_like=True):
    """A later version may append fields with defaults."""

    id: str
    kind: MessageKind
    to_all: bool  # the message is for a group, and this is the recipient's copy of it
    room: str
    media_type: str
    name: str
    priority: Priority
    requires_privacy: bool
    offline_capable: bool
    created_ms: Annotated[int, Meta(ge=0, le=_MAX_MS)]
    expires_ms: Annotated[int, Meta(ge=0, le=_MAX_MS)]
    card: str


@dataclass(frozen=True, slots=True)
class Opened:
    """What an envelope held.

    Attributes:
        message: with its sender.
        card: the sender's card, if one came along that is good and theirs.
        signing_public: the sender's signing key.
    """

    message: DecentralizedMessage
    card: ContactCard | None
    signing_public: bytes


def seal_envelope(
    message: DecentralizedMessage, recipient: str, identity: Identity, card: str = ""
) -> bytes:
    """Sign a message for one recipient.

    Args:
        message: with an id.
        recipient: the fingerprint of who gets this copy.
        identity: the sender, whatever the message says.
        card: the text of the sender's card, by which the recipient can answer.

    Raises:
        InvalidMessage: a field of the message is out of bounds.
    """
    message.check()
    if not message.id or not is_fingerprint(recipient):
        raise InvalidMessage("a message over HTX has an id, and a fingerprint that it goes to")
    header = msgspec.msgpack.encode(
        _Header(
            message.id,
            message.kind,
            message.receiver_id is None,
            message.room,
            message.media_type,
            message.name,
            message.priority,
            message.requires_privacy,
            message.offline_capable,
            message.created_ms,
            message.expires_ms,
            card,
        )
    )
    signature = identity.sign(_signed(recipient, header, message.body))
    return msgspec.msgpack.encode(
        _Envelope(VERSION, identity.signing_public, signature, header, message.body)
    )


def open_envelope(data: bytes, recipient: str) -> Opened:
    """Read an envelope, of whose bytes nothing is believed.

    Args:
        data: what came.
        recipient: the fingerprint of who got it.

    Raises:
        EnvelopeInvalid: it is none, not for this recipient, or not signed by who it says.
    """
    if len(data) > MAX_ENVELOPE_BYTES:
        raise EnvelopeInvalid("size", "the envelope is too long")
    try:
        envelope = msgspec.msgpack.decode(data, type=_Envelope)
        header = msgspec.msgpack.decode(envelope.header, type=_Header)
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError, RecursionError):
        raise EnvelopeInvalid("form", "these bytes are no envelope") from None
    if envelope.version != VERSION:
        raise EnvelopeInvalid("version", "the envelope is of a version that is not read here")
    try:
        sender = fingerprint_of(noise_key_of(envelope.key))
    except ValueError:
        raise EnvelopeInvalid("key", "the envelope's key is none") from None
    if not verifies(
        envelope.key, _signed(recipient, envelope.header, envelope.body), envelope.signature
    ):
        raise EnvelopeInvalid("signature", "the envelope is not signed for this recipient")
    message = DecentralizedMessage(
        body=envelope.body,
        receiver_id=None if header.to_all else recipient,
        room=header.room,
        media_type=header.media_type,
        name=header.name,
        priority=header.priority,
        requires_privacy=header.requires_privacy,
        offline_capable=header.offline_capable,
        kind=header.kind,
        id=header.id,
        sender=sender,
        created_ms=header.created_ms,
        expires_ms=header.expires_ms,
    )
    try:
        message.check()
    except InvalidMessage as error:
        raise EnvelopeInvalid("field", f"the message in the envelope: {error}") from None
    if not message.id:
        raise EnvelopeInvalid("field", "the message in the envelope has no id")
    return Opened(message, _card_of(header.card, envelope.key), envelope.key)


def mixnet_id(message_id: str, recipient: str, attempt: int, card: str) -> str:
    """The id under which the mixnet knows one sending of one copy: 32 hexadecimal digits.

    The same sending has the same id after a crash, so that the recipient's client takes it once. It
    says nothing of the message to who does not know the message's own id.
    """
    parts = (message_id.encode(), recipient.encode(), b"%d" % attempt, card.encode())
    hashed = hashlib.sha256(_ID_CONTEXT)
    for part in parts:
        hashed.update(len(part).to_bytes(4, "big") + part)
    return hashed.hexdigest()[:32]


def _signed(recipient: str, header: bytes, body: bytes) -> bytes:
    return b"".join(
        (
            _CONTEXT,
            bytes.fromhex(recipient),
            hashlib.sha256(header).digest(),
            hashlib.sha256(body).digest(),
        )
    )


def _card_of(text: str, key: bytes) -> ContactCard | None:
    """The card that came along; one that is damaged, or another's, is none."""
    if not text:
        return None
    try:
        card = _parsed(text)
    except CardInvalid:
        return None
    return card if card.signing_public == key else None


@functools.lru_cache(CARDS)
def _parsed(text: str) -> ContactCard:
    """A card goes with each message: its signature is checked with the first."""
    return ContactCard.parse(text)
