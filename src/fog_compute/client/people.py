"""What is used of the backend's answers about people and their messages."""

from __future__ import annotations

from typing import TypedDict

__all__ = [
    "Cancelled",
    "Capability",
    "ChatEvent",
    "ChatEvents",
    "Delivery",
    "Group",
    "GroupMade",
    "Groups",
    "Log",
    "Me",
    "Message",
    "Moved",
    "Near",
    "NearPeer",
    "Peer",
    "Peers",
    "Sent",
    "Trace",
    "Wiped",
]


class Peer(TypedDict):
    """Somebody whom one knows, or has met."""

    fingerprint: str
    shown: str
    name: str
    petname: str
    trust: str
    blocked: bool
    words: list[str]
    levels: list[str]
    last_seen_at: str | None
    key_refused_at: str | None


class Peers(TypedDict):
    """Everybody whom one knows or has met."""

    peers: list[Peer]


class Capability(TypedDict):
    """A transport, and whether it can be used now."""

    name: str
    available: bool
    reason: str


class Me(TypedDict):
    """Who one is here."""

    fingerprint: str
    name: str
    words: list[str]
    card: str | None
    level: str
    transports: list[Capability]
    waiting: int
    outbox: dict[str, int]
    max_file_bytes: int


class Sent(TypedDict):
    """A message that is kept, and goes out; why some are not reached now."""

    id: str
    reasons: dict[str, str]


class Cancelled(TypedDict):
    """Messages that were given up."""

    ids: list[str]


class Message(TypedDict):
    """A message in the log."""

    position: int
    id: str
    sender: str
    shown: str
    outgoing: bool
    to: str | None
    room: str
    kind: str
    text: str | None
    name: str
    size: int | None
    at: str
    verified: bool
    known: bool
    states: dict[str, str]
    reasons: dict[str, str]


class Log(TypedDict):
    """Messages in the order of the log."""

    messages: list[Message]
    next: int


class Delivery(TypedDict):
    """A message of one's own came to another state."""

    id: str
    receiver: str
    state: str
    transport: str | None
    reason: str


class Moved(TypedDict):
    """How much of a large message of one's own has gone to one recipient."""

    id: str
    receiver: str
    done: int
    total: int


class ChatEvent(TypedDict):
    """A message, what became of one, or how much of one has gone: one of the three is there."""

    message: Message | None
    delivery: Delivery | None
    moved: Moved | None


class ChatEvents(TypedDict):
    """What happened, and where to go on."""

    events: list[ChatEvent]
    next: str


class NearPeer(TypedDict):
    """Somebody who can be reached now."""

    peer: Peer
    ways: dict[str, str]


class Near(TypedDict):
    """Who can be reached."""

    peers: list[NearPeer]
    reasons: dict[str, str]


class Trace(TypedDict):
    """How a message to somebody would go."""

    peer: Peer
    ways: dict[str, str]
    hops: int | None
    round_trip_ms: float | None
    reasons: dict[str, str]


class Group(TypedDict):
    """A group that one is in."""

    id: str
    name: str
    maker: str
    members: list[str]
    names: dict[str, str]


class Groups(TypedDict):
    """All groups that one is in."""

    groups: list[Group]


class GroupMade(TypedDict):
    """A group that was made."""

    id: str


class Wiped(TypedDict):
    """What was destroyed."""

    wiped: bool
