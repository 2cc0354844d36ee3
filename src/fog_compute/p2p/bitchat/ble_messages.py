"""Messages as BitChat has them: what travels inside a session, and what came out of one.

A short text to one person, and a receipt, are the app's own records, so that the app shows them.
Everything else goes as a file: the app shows its content, and passes over one more field of it, in
which the rest of a message stands.

=====================================  ==========================================================
a message                              what travels
=====================================  ==========================================================
text of up to 255 bytes, to one person  private message (01): id and text
the same, with a courier, between ours  file (20), with the field F0: it says when it is over
a file for all                         file, with the field F0
receipt                                03 delivered or 02 read, one for each id
roster, to somebody with the app       a group's state (06); 07 is read like it
anything else, up to 1 MiB             file (20), with the field F0
=====================================  ==========================================================

The field F0 has a length of 2 bytes and a msgpack record: see `Rest`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.files import MAX_FILE, File
from fog_compute.p2p.bitchat.wire.private import (
    MAX_ID,
    MAX_TEXT,
    PrivateKind,
    PrivateMessage,
    decode_id,
    encode_id,
    within,
)
from fog_compute.p2p.bitchat.wire.tlv import field
from fog_compute.p2p.core.messages import (
    MAX_LIFE_MS,
    DecentralizedMessage,
    DeliveryState,
    InvalidMessage,
    MessageKind,
    Priority,
    Receipt,
    public_id,
)
from fog_compute.p2p.core.rosters import Roster

__all__ = [
    "PLAIN",
    "Rest",
    "checked",
    "public_file",
    "public_message",
    "read_private",
    "write_file",
    "write_private",
]

REST: Final = 0xF0
PLAIN: Final = "text/plain"
UNNAMED: Final = "message.txt"
UNKNOWN: Final = "application/octet-stream"

RECEIPTS: Final = {
    PrivateKind.DELIVERED: DeliveryState.DELIVERED,
    PrivateKind.READ: DeliveryState.READ,
}


class Rest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=False):
    """What a file does not say of the message that it is.

    Attributes:
        id: of the message.
        kind: `MessageKind`.
        room: as in the message.
        created_ms: as in the message.
        expires_ms: as in the message.
        priority: as in the message.
        empty: its body has no bytes; a file has one at least.
        unnamed: it has no name; Android's app reads no file without one.
    """

    id: str
    kind: MessageKind
    room: str = ""
    created_ms: int = 0
    expires_ms: int = 0
    priority: Priority = Priority.NORMAL
    empty: bool = False
    unnamed: bool = False


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Rest).decode


def write_private(message: DecentralizedMessage, *, dated: bool = False) -> tuple[bytes, ...]:
    """What a session with the recipient carries of a message, in this order.

    Args:
        message: to one person.
        dated: say also of a short text when it was made and when it is over. Programs of our sort
            alone show such a one as a text.

    Raises:
        Malformed: no session carries it: it is longer than 1 MiB, or is no receipt.
    """
    if message.kind is MessageKind.RECEIPT:
        try:
            receipt = Receipt.parse(message.body)
        except InvalidMessage as error:
            raise Malformed(Reason.FIELD, str(error)) from None
        kind = PrivateKind.READ if receipt.state is DeliveryState.READ else PrivateKind.DELIVERED
        return tuple(within(kind, encode_id(one)) for one in receipt.ids)
    if (
        not dated
        and message.kind is MessageKind.TEXT
        and message.media_type == PLAIN
        and not message.room
        and len(message.body) <= MAX_TEXT
        and len(message.id.encode()) <= MAX_ID
    ):
        try:
            said = message.body.decode()
        except UnicodeDecodeError:
            pass  # no text of BitChat's
        else:
            return (within(PrivateKind.MESSAGE, PrivateMessage(message.id, said).encode()),)
    if len(message.body) > MAX_FILE:
        raise Malformed(
            Reason.TOO_LONG, f"{len(message.body)} bytes are too many for Bluetooth: at most 1 MiB"
        )
    file, rest = write_file(message)
    return (within(PrivateKind.FILE, file.encode() + rest),)


def write_file(message: DecentralizedMessage) -> tuple[File, bytes]:
    """A message as a file, and the field that says the rest of it."""
    rest = Rest(
        message.id,
        message.kind,
        message.room,
        message.created_ms,
        message.expires_ms,
        message.priority,
        empty=not message.body,
        unnamed=not message.name,
    )
    unnamed = "file" if message.kind is MessageKind.FILE else UNNAMED
    file = File(message.body or b"\0", message.name or unnamed, message.media_type)
    return file, field(REST, _encode(rest), 2)


def read_private(
    kind: int, body: bytes, sender: str, recipient: str, sent_ms: int, envelope: bytes = b""
) -> DecentralizedMessage | None:
    """The message that came out of a session; None of what is none.

    Args:
        kind: the first byte.
        body: what followed it.
        sender: fingerprint of who had the session's key.
        recipient: one's own fingerprint.
        sent_ms: when it was sent, by the sender's clock.
        envelope: the name of what it came in, where couriers brought it.

    Raises:
        Malformed: it claims to be a message, and is none.
    """
    if kind == PrivateKind.MESSAGE:
        said = PrivateMessage.decode(body)
        return checked(
            DecentralizedMessage(
                body=said.text.encode(),
                receiver_id=recipient,
                id=said.id,
                sender=sender,
                created_ms=sent_ms,
                expires_ms=sent_ms + MAX_LIFE_MS,
            )
        )
    if kind in (PrivateKind.READ, PrivateKind.DELIVERED):
        receipt = Receipt(RECEIPTS[PrivateKind(kind)], (_one_id(body),)).encode()
        return DecentralizedMessage(
            body=receipt,
            receiver_id=recipient,
            kind=MessageKind.RECEIPT,
            id=hashlib.sha256(sender.encode() + receipt).hexdigest()[:32],
            sender=sender,
            created_ms=sent_ms,
            expires_ms=sent_ms + MAX_LIFE_MS,
        )
    if kind in (PrivateKind.GROUP_INVITE, PrivateKind.GROUP_KEY_UPDATE):
        return _roster(body, sender, sent_ms)
    if kind == PrivateKind.FILE:
        return checked(_from_file(body, sender, recipient, sent_ms, envelope))
    return None


def _roster(body: bytes, sender: str, sent_ms: int) -> DecentralizedMessage:
    """A roster as the app sends it: every copy of it has the same id."""
    try:
        roster = Roster.parse(body)
    except InvalidMessage as error:
        raise Malformed(Reason.FIELD, str(error)) from None
    brought = hashlib.sha256(sender.encode() + body).hexdigest()
    return msgspec.structs.replace(
        roster.message(),
        id=f"roster-{brought[:32]}",
        sender=sender,
        created_ms=sent_ms,
        expires_ms=sent_ms + MAX_LIFE_MS,
    )


def public_message(message_id: str, text: str, sender: str, sent_ms: int) -> DecentralizedMessage:
    """What somebody said to all who are near."""
    return DecentralizedMessage(
        body=text.encode(),
        id=message_id,
        sender=sender,
        created_ms=sent_ms,
        expires_ms=sent_ms + MAX_LIFE_MS,
    )


def public_file(
    message_id: str,
    file: File,
    others: Mapping[int, bytes],
    sender: str,
    sent_ms: int,
    recipient: str | None,
) -> DecentralizedMessage:
    """A file that somebody gave to all who are near, or to one person in clear.

    One of ours for all says when it was made: its id follows from that, so that it is the same on
    every transport, however long the file waited for this one.

    Raises:
        Malformed: it claims to be a message of ours, and is none.
    """
    rest = _rest_of(others)
    message = DecentralizedMessage(
        body=file.content,
        receiver_id=recipient,
        media_type=_media_type(file),
        name=file.leaf if file.name else "",
        kind=MessageKind.FILE,
        id=message_id,
        sender=sender,
        created_ms=sent_ms,
        expires_ms=sent_ms + MAX_LIFE_MS,
    )
    if rest is None or recipient is not None:
        return message
    message = msgspec.structs.replace(
        message,
        body=b"" if rest.empty else file.content,
        name="" if rest.unnamed else message.name,
        created_ms=rest.created_ms,
        expires_ms=rest.expires_ms or rest.created_ms + MAX_LIFE_MS,
    )
    return checked(msgspec.structs.replace(message, id=public_id(message)))


def _media_type(file: File) -> str:
    """The media type, if what the sender says of it is one."""
    said = file.media_type or UNKNOWN
    try:
        DecentralizedMessage(body=b"", media_type=said).check()
    except InvalidMessage:
        return UNKNOWN
    return said


def _from_file(
    body: bytes, sender: str, recipient: str, sent_ms: int, envelope: bytes
) -> DecentralizedMessage:
    file, others = File.read(body)
    rest = _rest_of(others)
    if rest is None:
        # Every copy of a file of the app's has the same id, as it gives none itself.
        sending = envelope or sent_ms.to_bytes(8, "big")
        own = hashlib.sha256(sender.encode() + sending + body).hexdigest()[:32]
        rest = Rest(f"file-{own}", MessageKind.FILE, created_ms=sent_ms)
    return DecentralizedMessage(
        body=b"" if rest.empty else file.content,
        receiver_id=recipient,
        room=rest.room,
        media_type=_media_type(file),
        name="" if rest.unnamed or not file.name else file.leaf,
        priority=rest.priority,
        kind=rest.kind,
        id=rest.id,
        sender=sender,
        created_ms=rest.created_ms,
        expires_ms=rest.expires_ms or rest.created_ms + MAX_LIFE_MS,
    )


def _rest_of(others: Mapping[int, bytes]) -> Rest | None:
    """The field of ours beside a file; None in one of the app's."""
    if REST not in others:
        return None
    try:
        return _decode(others[REST])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Malformed(Reason.FIELD, "a file's message is not described") from None


def _one_id(body: bytes) -> str:
    """The id in a receipt; one with an end of line would be read as several."""
    name = decode_id(body)
    if "\n" in name:
        raise Malformed(Reason.FIELD, "a receipt names a message that there cannot be")
    return name


def checked(message: DecentralizedMessage) -> DecentralizedMessage:
    """The message, if it is one that can be shown.

    Raises:
        Malformed: a field is out of bounds.
    """
    try:
        message.check()
    except InvalidMessage as error:
        raise Malformed(Reason.FIELD, str(error)) from None
    if not message.id or message.kind is MessageKind.RECEIPT:
        raise Malformed(Reason.FIELD, "a message has an id, and is no receipt in a file")
    return message
