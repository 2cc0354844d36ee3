"""Messages: their record, their ids, their receipts, and the table of what becomes of them.

People are named by their fingerprint (64 hexadecimal digits) everywhere; a message by its id, the
same on every transport. An id that has a place in a *stream* (one sender, one conversation, one
lane) is 32 hexadecimal digits: 64 random bits, 32 bits that follow from them, so that it is told
from any other id wherever it comes from, and the 32-bit place, from 0. Every other id, ours or not,
is opaque text of at most 255 bytes.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Final, Self

import msgspec

from fog_compute.errors import FogError
from fog_compute.units import MIB

__all__ = [
    "LATEST_MS",
    "MAX_BODY_BYTES",
    "MAX_ID_BYTES",
    "MAX_LIFE_MS",
    "DecentralizedMessage",
    "DeliveryEvent",
    "DeliveryState",
    "InvalidMessage",
    "MessageId",
    "MessageKind",
    "Priority",
    "Receipt",
    "after",
    "is_own_id",
    "new_stream",
    "public_id",
    "public_text_id",
]

MAX_BODY_BYTES: Final = 60 * MIB
"""Of one message: a mixnet message of 64 MiB holds it with its envelope."""

MAX_ID_BYTES: Final = 255
"""Of a foreign id; in BitChat's wire format a length of one byte stands before it."""

MAX_ROOM_BYTES: Final = 64
MAX_MEDIA_TYPE_BYTES: Final = 100

MAX_LIFE_MS: Final = 7 * 24 * 3_600_000
"""How long a message may be under way; its id is remembered as long."""

LATEST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999: no date is later."""

MAX_RECEIPT_IDS: Final = 256
"""Ids that one receipt may name."""

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_OWN_ID: Final = re.compile(r"[0-9a-f]{32}")
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")


class InvalidMessage(FogError, ValueError):
    """A message, an id or a receipt is none that can be sent or taken."""


@dataclass(frozen=True, slots=True, order=True)
class MessageId:
    """The two parts of an id of ours.

    Attributes:
        stream: 24 hexadecimal digits, as `new_stream` draws them.
        sequence: the place in the stream, from 0, below 2^32.
    """

    stream: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.stream}{self.sequence:08x}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The parts of an id; None of one that has no place in a stream."""
        if not _OWN_ID.fullmatch(text) or text[16:24] != _mark(text[:16]):
            return None
        return cls(text[:24], int(text[24:], 16))


def is_own_id(text: str) -> bool:
    """Whether an id has the form of those that this program gives; the app's are UUIDs."""
    return _OWN_ID.fullmatch(text) is not None


def new_stream(rng: Random) -> str:
    """Draw the name of a stream."""
    drawn = f"{rng.getrandbits(64):016x}"
    return drawn + _mark(drawn)


def _mark(drawn: str) -> str:
    return hashlib.sha256(b"fog-stream-v1\x00" + drawn.encode()).hexdigest()[:8]


class Priority(enum.IntEnum):
    """What goes first where not everything can."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    URGENT = 3


class MessageKind(enum.StrEnum):
    """What a message is."""

    TEXT = "text"
    FILE = "file"
    RECEIPT = "receipt"
    CONTROL = "control"


class DecentralizedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message, as an application sends it and as a transport carries it.

    Whoever sends gives what is in ``body`` and for whom; the router fills in ``id``, ``sender``,
    ``created_ms`` and ``expires_ms``.

    Attributes:
        body: at most `MAX_BODY_BYTES`; UTF-8 of a text, the content of a file.
        receiver_id: the recipient's fingerprint; None for all who are near, or for a group.
        room: "" of a direct message; otherwise the id of a group, or the name of a room.
        media_type: of ``body``, such as ``text/plain`` or ``image/jpeg``.
        name: of a file, without folders; "" of everything else.
        priority: what goes first.
        requires_privacy: take no way on which others see who writes to whom: no Bluetooth, and no
            mixnet of one hop.
        offline_capable: wait where nobody can be reached now; otherwise that is an error at once.
        kind: what it is.
        id: see the module.
        sender: the sender's fingerprint.
        created_ms: when it was made, in ms since 1970.
        expires_ms: when it is worth nothing any more, at most `MAX_LIFE_MS` later; 0 for that.
    """

    body: bytes
    receiver_id: str | None = None
    room: str = ""
    media_type: str = "text/plain"
    name: str = ""
    priority: Priority = Priority.NORMAL
    requires_privacy: bool = False
    offline_capable: bool = True
    kind: MessageKind = MessageKind.TEXT
    id: str = ""
    sender: str = ""
    created_ms: int = 0
    expires_ms: int = 0

    @property
    def text(self) -> str:
        """The body as text; what is no UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    @property
    def lane(self) -> str:
        """What it is in order with, in its conversation: its priority, privacy, text or file.

        What has to wait for another transport, or takes long, does not hold up the rest.
        """
        private = "p" if self.requires_privacy else ""
        return f"{self.priority:d}{private}{'f' if self.kind is MessageKind.FILE else ''}"

    @property
    def ordered(self) -> bool:
        """Whether it has a place in a stream: not what goes to all, or must not wait."""
        return self.offline_capable and not (self.receiver_id is None and not self.room)

    def check(self) -> Self:
        """Return the message, if it can be sent or taken.

        Raises:
            InvalidMessage: a field is out of bounds; the text names it.
        """
        for name, fingerprint in (("receiver_id", self.receiver_id), ("sender", self.sender)):
            if fingerprint and not _FINGERPRINT.fullmatch(fingerprint):
                raise InvalidMessage(f"{name} is no fingerprint: give 64 hexadecimal digits")
        if self.receiver_id == "":
            raise InvalidMessage("receiver_id is empty: give None for all who are near")
        if len(self.body) > MAX_BODY_BYTES:
            raise InvalidMessage(
                f"a message has {MAX_BODY_BYTES} bytes at most, and not {len(self.body)}:"
                " send a large file in parts"
            )
        _bounded("id", self.id, MAX_ID_BYTES)
        _bounded("room", self.room, MAX_ROOM_BYTES)
        _bounded("name", self.name, MAX_ID_BYTES)
        if len(self.media_type) > MAX_MEDIA_TYPE_BYTES or not _MEDIA_TYPE.fullmatch(
            self.media_type
        ):
            raise InvalidMessage("media_type is none: give one such as text/plain")
        if not (0 <= self.created_ms <= LATEST_MS and 0 <= self.expires_ms <= LATEST_MS):
            raise InvalidMessage("created_ms and expires_ms are from 1970 to 9999")
        if self.expires_ms and not 0 <= self.expires_ms - self.created_ms <= MAX_LIFE_MS:
            raise InvalidMessage("expires_ms is not before created_ms, and 7 days after it at most")
        return self


class DeliveryState(enum.StrEnum):
    """Where a message stands with one of its recipients, as far as its sender can know."""

    QUEUED = "queued"  # waits in the outbox
    SENDING = "sending"  # a transport was asked to take it
    ACCEPTED = "accepted"  # a transport took it; no more is known
    STORED = "stored"  # it is on a disk that keeps it for the recipient
    DELIVERED = "delivered"  # the recipient says so
    READ = "read"  # the recipient says so
    FAILED = "failed"  # given up
    EXPIRED = "expired"  # its time is over

    @property
    def final(self) -> bool:
        """Whether nothing more is done for it."""
        return self in _FINAL


_FINAL: Final = frozenset(
    {DeliveryState.DELIVERED, DeliveryState.READ, DeliveryState.FAILED, DeliveryState.EXPIRED}
)


class DeliveryEvent(enum.StrEnum):
    """What happens to a message on its way to one recipient."""

    OFFER = "offer"  # a transport is asked to take it
    ACCEPT = "accept"  # it did
    STORE = "store"  # it is kept for the recipient
    RETURN = "return"  # the transport could not, went away, or nothing was heard in time
    DELIVER = "deliver"  # a receipt came: delivered
    READ = "read"  # a receipt came: read
    FAIL = "fail"  # it cannot be sent, or is not to wait
    EXPIRE = "expire"  # its time is over


def _table() -> Mapping[tuple[DeliveryState, DeliveryEvent], DeliveryState]:
    state, event = DeliveryState, DeliveryEvent
    waiting = (state.QUEUED, state.SENDING, state.ACCEPTED, state.STORED)
    steps = {
        (state.QUEUED, event.OFFER): state.SENDING,
        (state.SENDING, event.ACCEPT): state.ACCEPTED,
        (state.SENDING, event.STORE): state.STORED,
        (state.ACCEPTED, event.STORE): state.STORED,
        (state.SENDING, event.RETURN): state.QUEUED,
        (state.ACCEPTED, event.RETURN): state.QUEUED,
        (state.STORED, event.RETURN): state.QUEUED,
        (state.DELIVERED, event.READ): state.READ,
    }
    for one in waiting:
        steps[one, event.FAIL] = state.FAILED
        steps[one, event.EXPIRE] = state.EXPIRED
    # What the recipient says holds, also of what was given up here: a copy was still on its way.
    for one in (*waiting, state.FAILED, state.EXPIRED):
        steps[one, event.DELIVER] = state.DELIVERED
        steps[one, event.READ] = state.READ
    return MappingProxyType(steps)


_TABLE: Final = _table()


def after(state: DeliveryState, event: DeliveryEvent) -> DeliveryState | None:
    """The state that follows; None where the event says nothing new, such as a second receipt."""
    return _TABLE.get((state, event))


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a recipient says of messages; the body of a message of kind ``receipt``.

    On the wire: one byte, 03 for delivered and 02 for read, then the ids as UTF-8, a line each.
    With one id these are the bytes that BitChat has inside Noise (``NoisePayloadType``).

    Attributes:
        state: ``delivered`` or ``read``.
        ids: of the messages, at most `MAX_RECEIPT_IDS`.
    """

    state: DeliveryState
    ids: tuple[str, ...]

    def encode(self) -> bytes:
        """The body of the receipt."""
        return _MARKS[self.state] + "\n".join(self.ids).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a receipt.

        Raises:
            InvalidMessage: it is none.
        """
        state = _STATES.get(body[:1])
        if state is None or len(body) > 1 + MAX_RECEIPT_IDS * (MAX_ID_BYTES + 1):
            raise InvalidMessage("a receipt says delivered or read, of a bounded number of ids")
        try:
            ids = tuple(body[1:].decode().split("\n"))
        except UnicodeDecodeError:
            raise InvalidMessage("a receipt names its messages in UTF-8") from None
        if len(ids) > MAX_RECEIPT_IDS or not all(
            0 < len(one.encode()) <= MAX_ID_BYTES for one in ids
        ):
            raise InvalidMessage("a receipt names from 1 to 256 messages")
        return cls(state, ids)


_MARKS: Final = {DeliveryState.DELIVERED: b"\x03", DeliveryState.READ: b"\x02"}
_STATES: Final = {mark: state for state, mark in _MARKS.items()}


def public_id(message: DecentralizedMessage) -> str:
    """The id of what goes to all: it follows from the message, so that each transport finds it."""
    return public_text_id(message.sender[:16], message.created_ms, message.text)


def public_text_id(peer_id: str, sent_ms: int, text: str) -> str:
    """How every program names a public message, which has no id of its own on the air.

    BitChat derives it: SHA-256 of peer id, time in milliseconds and text without spaces around it,
    with | between them, cut to 16 bytes (``MeshMessageIdentity.swift``).
    """
    told = f"{peer_id}|{sent_ms}|{text.strip()}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _bounded(name: str, value: str, limit: int) -> None:
    """Refuse what is too long, or has characters that end a line or a text."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidMessage(f"{name} has half a character in it") from None
    if size > limit:
        raise InvalidMessage(f"{name} has {limit} bytes at most, and not {size}")
    if not value.isprintable():
        raise InvalidMessage(f"{name} has a character in it that cannot be shown")
