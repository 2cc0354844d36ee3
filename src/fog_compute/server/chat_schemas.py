"""What the HTTP interface takes and gives of messages between people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self, TypeAlias, TypeVar

from pydantic import Base64Bytes, Field

from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.core.book import LogEntry
from fog_compute.p2p.core.messages import (
    MAX_BODY_BYTES,
    MAX_ID_BYTES,
    MAX_LIFE_MS,
    MAX_RECEIPT_IDS,
    DecentralizedMessage,
    DeliveryState,
    InvalidMessage,
    MessageKind,
    Priority,
)
from fog_compute.p2p.core.rosters import Roster
from fog_compute.p2p.core.transport import TransportCapabilities, TransportType
from fog_compute.rooms import ALL_NEAR
from fog_compute.server.forms import VISIBLE
from fog_compute.server.peer_schemas import PeerOut
from fog_compute.server.schemas import In, Out

__all__ = [
    "CancelIn",
    "CancelledOut",
    "ChatEventOut",
    "ChatEventsOut",
    "DeliveryOut",
    "GroupIn",
    "GroupListOut",
    "GroupMadeOut",
    "GroupOut",
    "LogOut",
    "MeOut",
    "MessageIn",
    "MessageOut",
    "MovedOut",
    "NearOut",
    "ReadIn",
    "SentOut",
    "TraceOut",
    "TransportOut",
    "WipeIn",
    "WipedOut",
]

MAX_TEXT: Final = 20_000
UNKNOWN_TYPE: Final = "application/octet-stream"

FINGERPRINT: Final = "^[0-9a-f]{64}$"

MessageName: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=MAX_ID_BYTES, pattern=VISIBLE)
]
"""The id of a message; those of other programs are any text."""

T = TypeVar("T")


class MessageIn(In):
    """A message to be sent."""

    to: str | None = Field(
        None, pattern=FINGERPRINT, description="The recipient; null with a room, or for all near."
    )
    room: str = Field("", max_length=64, pattern=VISIBLE, description="The id of a group.")
    text: str | None = Field(None, max_length=MAX_TEXT)
    file: Base64Bytes | None = Field(
        None, max_length=MAX_BODY_BYTES, description="Instead of a text: the content, in base64."
    )
    name: str = Field("", max_length=255, pattern=VISIBLE, description="Of a file.")
    media_type: str = Field("", max_length=100, description="Of a file.")
    priority: Literal["low", "normal", "high", "urgent"] = Field(
        "normal", description="What goes first where not everything can."
    )
    requires_privacy: bool = Field(
        False, description="Only on ways on which nobody sees who writes to whom: no Bluetooth."
    )
    offline_capable: bool = Field(
        True, description="Let it wait where nobody can be reached now; otherwise it fails at once."
    )
    lasts_s: float = Field(
        0, ge=0, le=MAX_LIFE_MS / 1000, description="Seconds until it is worth nothing; 0: longest."
    )
    unknown: bool = Field(
        False, description="Also to whom nobody here knows: otherwise that is refused."
    )

    def made(self, expires_ms: int) -> DecentralizedMessage:
        """The message that is meant.

        Raises:
            InvalidMessage: it has no content, or two; or it goes to one person and to a room.
        """
        if self.to is not None and self.room:
            raise InvalidMessage("give `to` or `room`: what goes to one person is in no room")
        if (self.text is None) == (self.file is None):
            raise InvalidMessage("give a text or a file, and not both")
        if self.file is None:
            body, kind, media_type = (self.text or "").encode(), MessageKind.TEXT, "text/plain"
        else:
            body, kind, media_type = self.file, MessageKind.FILE, self.media_type or UNKNOWN_TYPE
        if kind is MessageKind.TEXT and not body:
            raise InvalidMessage("the text is empty")
        return DecentralizedMessage(
            body=body,
            receiver_id=self.to,
            room=self.room,
            kind=kind,
            media_type=media_type,
            name=self.name if kind is MessageKind.FILE else "",
            priority=Priority[self.priority.upper()],
            requires_privacy=self.requires_privacy,
            offline_capable=self.offline_capable,
            expires_ms=expires_ms,
        )


class SentOut(Out):
    """A message that is kept here, and goes out."""

    id: str = Field(description="The same on every transport, and at the recipient.")
    receivers: list[str] = Field(description="To whom it goes; `*` for all who are near.")
    reasons: dict[str, str] = Field(
        description="Of each recipient, or `*` for all who are near, whom nothing reaches now: why."
    )


class CancelIn(In):
    """Messages of one's own that are to be given up: some, or all to a person or a room."""

    ids: list[MessageName] = Field(default=[], max_length=MAX_RECEIPT_IDS)
    to: str | None = Field(None, pattern=FINGERPRINT, description="All that waits for a person.")
    room: str | None = Field(
        None,
        max_length=64,
        pattern=VISIBLE,
        description="All that waits for a group; empty: for all who are near.",
    )


class CancelledOut(Out):
    """Messages that were given up: a copy that is on its way may still arrive."""

    ids: list[str]


class MessageOut(Out):
    """A message in the log."""

    position: int = Field(description="Its place in the log: a later one has a higher number.")
    id: str
    sender: str = Field(description="A fingerprint; one's own of what one sent.")
    shown: str = Field(description="What people call the sender.")
    outgoing: bool
    to: str | None = Field(description="The recipient's fingerprint; null of a room.")
    room: str
    kind: MessageKind
    text: str | None = Field(description="Null of a file.")
    name: str
    media_type: str
    size: int | None = Field(description="Bytes of a file, where they are known.")
    at: datetime = Field(description="When it was made, or came.")
    verified: bool = Field(description="That the sender sent it is proved.")
    known: bool = Field(description="The sender is oneself or a contact, and not a stranger.")
    late: bool = Field(description="It came after messages that were sent later.")
    states: dict[str, DeliveryState] = Field(
        description="Of what one sent: where it stands with each recipient, `*` for all near."
    )
    reasons: dict[str, str] = Field(
        description="Of what one sent: why it failed, expired or waits, by recipient."
    )

    @classmethod
    def of(cls, entry: LogEntry, shown: str, known: bool) -> Self:
        """Return what is shown of a message."""
        message = entry.message
        is_text = message.kind is MessageKind.TEXT
        return cls(
            position=entry.position,
            id=message.id,
            sender=message.sender,
            shown=shown,
            outgoing=entry.outgoing,
            to=message.receiver_id,
            room=message.room,
            kind=message.kind,
            text=message.text if is_text else None,
            name=message.name,
            media_type=message.media_type,
            size=len(message.body) if is_text or message.body else None,
            at=datetime.fromtimestamp(entry.at, UTC),
            verified=entry.verified,
            known=known,
            late=entry.late,
            states=_by_name(entry.states),
            reasons=_by_name(entry.reasons),
        )


class LogOut(Out):
    """Messages in the order of the log."""

    messages: list[MessageOut]
    next: int = Field(description="What to give as `after` for what follows.")


class DeliveryOut(Out):
    """A message of one's own came to another state with one recipient."""

    id: str
    receiver: str = Field(description="A fingerprint; `*` for all who were near.")
    state: DeliveryState
    transport: str | None
    reason: str = Field(
        description="Of a failure: why; of `accepted`: why no more will be heard of it."
    )


class MovedOut(Out):
    """How much of a large message of one's own has gone to one recipient."""

    id: str
    receiver: str
    done: int = Field(description="Bytes that have gone.")
    total: int


class ChatEventOut(Out):
    """Something that happened: one of the three is there."""

    message: MessageOut | None = None
    delivery: DeliveryOut | None = None
    moved: MovedOut | None = None


class ChatEventsOut(Out):
    """What happened, in its order."""

    events: list[ChatEventOut]
    next: str = Field(description="What to give as `since` for what follows.")


class ReadIn(In):
    """Messages of one sender that were read here; the sender is told."""

    sender: str = Field(pattern=FINGERPRINT)
    ids: list[MessageName] = Field(min_length=1, max_length=MAX_RECEIPT_IDS)


class TransportOut(Out):
    """A transport, and whether it can be used now."""

    name: TransportType
    available: bool
    reason: str = Field(
        description="Why it cannot be used, or not all of it, and what to do; empty if it can."
    )
    supports_offline: bool
    max_message_bytes: int
    latency_class: str
    metadata_private: bool

    @classmethod
    def of(cls, name: TransportType, can: TransportCapabilities) -> Self:
        """Return what is shown of a transport."""
        return cls(
            name=name,
            available=can.available,
            reason=can.unavailable_because or can.limited_because or "",
            supports_offline=can.supports_offline,
            max_message_bytes=can.max_message_size,
            latency_class=can.latency_class,
            metadata_private=can.metadata_private,
        )

    @classmethod
    def all_of(cls, found: Mapping[TransportType, TransportCapabilities]) -> list[Self]:
        """Return what is shown of all of them."""
        return [cls.of(name, can) for name, can in found.items()]


class MeOut(Out):
    """Who one is here, and how others reach one."""

    fingerprint: str
    name: str
    words: list[str] = Field(description="Read them aloud to be verified.")
    card: str | None = Field(
        description="Give it to others, so that they can write; null before the network is joined."
    )
    level: PrivacyLevel = Field(description="Of messages over the mixnet.")
    transports: list[TransportOut]
    waiting: int = Field(description="Messages of one's own that are not delivered yet.")
    outbox: dict[DeliveryState, int] = Field(description="The same, by state.")
    max_file_bytes: int = Field(description="The longest file that can be sent.")


class NearPeer(Out):
    """Somebody who can be reached now."""

    peer: PeerOut
    ways: dict[str, str] = Field(
        description="How each transport reaches them: `direct`, `mesh`, `address` or `courier`."
    )


class NearOut(Out):
    """Who can be reached, and how."""

    peers: list[NearPeer]
    reasons: dict[str, str] = Field(description="Of each transport that cannot be used now: why.")


class TraceOut(Out):
    """How a message to somebody would go."""

    peer: PeerOut
    ways: dict[str, str]
    hops: int | None = Field(description="Over the Bluetooth mesh, as measured now; else null.")
    round_trip_ms: float | None
    reasons: dict[str, str] = Field(description="Of each transport that does not reach them: why.")


class GroupIn(In):
    """A group to be made, or what it is to be from now on."""

    name: str = Field(min_length=1, max_length=64, pattern=VISIBLE)
    members: list[str] = Field(
        min_length=1,
        max_length=15,
        description="Fingerprints of people whom one knows; oneself is a member anyway.",
    )


class GroupMadeOut(Out):
    """A group that was made."""

    id: str = Field(description="The room of its messages.")


class GroupOut(Out):
    """A group."""

    id: str = Field(description="The room of its messages.")
    name: str
    maker: str = Field(description="Who may change it.")
    members: list[str]
    names: dict[str, str] = Field(
        description="What members called themselves when they came in, where that is known."
    )

    @classmethod
    def of(cls, roster: Roster) -> Self:
        """Return what is shown of a group."""
        return cls(
            id=roster.id,
            name=roster.name,
            maker=roster.maker,
            members=sorted(roster.members),
            names={one.fingerprint: one.name for one in roster.people if one.name},
        )


class GroupListOut(Out):
    """All groups that one is a member of."""

    groups: list[GroupOut]


class WipeIn(In):
    """Confirms that everything is to be destroyed."""

    confirm: Literal["wipe"] = Field(description="The word `wipe`.")


class WipedOut(Out):
    """What was destroyed."""

    wiped: bool = Field(description="Whether there were keys.")


def _by_name(of: Mapping[str, T]) -> dict[str, T]:
    return {receiver or ALL_NEAR: one for receiver, one in of.items()}
