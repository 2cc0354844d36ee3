"""What is used of the backend's answers about people and their messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from fog_compute.errors import NotFound
from fog_compute.rooms import ALL_NEAR, NEAR
from fog_compute.text import one_line

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
    "group_called",
    "has_it",
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
    """A message that is kept, and goes out: to whom, and why some are not reached now."""

    id: str
    receivers: list[str]
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


def group_called(text: str, groups: Sequence[Group]) -> Group:
    """The one group that a person means, by its name or its id.

    Raises:
        NotFound: it is none of them, or several are called so.
    """
    found = [one for one in groups if one["id"] == text] or [
        one for one in groups if one["name"].lower() == text.lower()
    ]
    if len(found) != 1:
        said = repr(one_line(text, 64))
        raise NotFound(
            f"several groups are called {said}: say which by its id, as `fog chat group ls` has it"
            if found
            else f"no group is called {said}: `fog chat group ls` lists them, and {NEAR!r} is all"
            " who are near"
        )
    return found[0]


def has_it(delivery: Delivery) -> bool:
    """Whether a recipient has a message, or it went out to whom no program will say so for."""
    silent = delivery["receiver"] == ALL_NEAR or bool(delivery["reason"])
    if delivery["state"] == "accepted":
        return silent
    return delivery["state"] in ("delivered", "read")
