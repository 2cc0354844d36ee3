"""What an application asks of the mesh, and what it hears: the records between engine and program.

Peers are named by their peer id (8 bytes), of which the fingerprint begins with the hexadecimal
digits. A token names what was asked, so that the answer finds its question; it goes nowhere.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from fog_compute.p2p.bitchat.mail.couriers import MailState
from fog_compute.p2p.bitchat.wire.announce import Announce
from fog_compute.p2p.bitchat.wire.files import File

__all__ = [
    "ClocksApart",
    "Command",
    "FileHeard",
    "GroupHeard",
    "HeardPrivately",
    "KeysProved",
    "Leave",
    "MailHeard",
    "MailKept",
    "MailSettled",
    "MailTaken",
    "News",
    "PartSent",
    "PeerAway",
    "PeerNear",
    "PostMail",
    "Rename",
    "SayAll",
    "SayGroup",
    "SayTo",
    "Sent",
    "SentState",
    "SessionReady",
    "ShareFile",
    "TextHeard",
    "Trace",
    "Traced",
]


@dataclass(frozen=True, slots=True)
class SayAll:
    """Say something to everybody near.

    Attributes:
        token: comes back in :class:`Sent`.
        text: what is said.
        sent_ms: when, in ms since 1970: the message's id follows from it. None, or what is older
            than five hours, is now. What is older than a minute waits until neighbours ask.
    """

    token: str
    text: str
    sent_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ShareFile:
    """Give a file to everybody near.

    Attributes:
        token: comes back in :class:`Sent`.
        file: at most 118 kB where somebody near runs another program, 1 MiB otherwise.
        more: fields of one's own behind those of the file; others pass over them.
    """

    token: str
    file: File
    more: bytes = b""


@dataclass(frozen=True, slots=True)
class SayGroup:
    """Say something to a group.

    Attributes:
        token: comes back in :class:`Sent`.
        payload: a :class:`~fog_compute.p2p.bitchat.wire.groups.GroupEnvelope`, encoded.
    """

    token: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class SayTo:
    """Say something to one peer, encrypted end to end.

    Attributes:
        token: comes back in :class:`Sent`.
        peer_id: to whom.
        payload: one of those of :mod:`~fog_compute.p2p.bitchat.wire.private`, its kind in front.
        wide: give it to all neighbours and not only on the best way: a former try had no receipt.
    """

    token: str
    peer_id: bytes
    payload: bytes
    wide: bool = False


@dataclass(frozen=True, slots=True)
class PostMail:
    """Give something for somebody out of reach to those who are near, and to whoever comes by.

    Attributes:
        token: comes back in :class:`Sent`: *accepted* if somebody carries it; *queued* if it waits
            for somebody, and once more when that has an end.
        message_id: of the message in it, as :class:`MailSettled` names it; a message may have
            several payloads.
        noise_key: of the recipient, 32 bytes.
        payload: as in :class:`SayTo`; up to 16,288 bytes.
    """

    token: str
    message_id: str
    noise_key: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class MailSettled:
    """A message that was posted has arrived, or is given up: nobody else needs to carry it.

    Attributes:
        message_id: of the message.
        noise_key: of the recipient; to a group, others still wait for theirs.
    """

    message_id: str
    noise_key: bytes


@dataclass(frozen=True, slots=True)
class MailTaken:
    """What :class:`MailHeard` told is kept: its envelope is never to be opened again.

    Attributes:
        envelope: as it was told.
        noise_key: as it was told.
        kept: False if there was no room for it: a copy of the envelope may be opened.
    """

    envelope: bytes
    noise_key: bytes
    kept: bool = True


@dataclass(frozen=True, slots=True)
class Rename:
    """Be known by another nickname from now on."""

    nickname: str


@dataclass(frozen=True, slots=True)
class Trace:
    """Ask how far away a peer is; the answer is :class:`Traced`, or none."""

    token: str
    peer_id: bytes


@dataclass(frozen=True, slots=True)
class Leave:
    """Tell the mesh that this node goes."""


Command: TypeAlias = (
    SayAll
    | ShareFile
    | SayGroup
    | SayTo
    | PostMail
    | MailSettled
    | MailTaken
    | Rename
    | Trace
    | Leave
)


@dataclass(frozen=True, slots=True)
class PeerNear:
    """A peer is near, or says something new of itself.

    Attributes:
        peer_id: who.
        announce: its keys and name, signed by it.
        hops: from how far its announce came; 1 is a neighbour.
        direct: whether there is a link to it.
    """

    peer_id: bytes
    announce: Announce
    hops: int
    direct: bool


@dataclass(frozen=True, slots=True)
class PeerAway:
    """A peer left, or was not heard for a minute."""

    peer_id: bytes


@dataclass(frozen=True, slots=True)
class TextHeard:
    """Somebody said something to everybody near; signed, and shown once.

    Attributes:
        peer_id: who.
        message_id: 32 hexadecimal digits that every program makes of the packet.
        text: what.
        sent_ms: when, by the sender's clock.
    """

    peer_id: bytes
    message_id: str
    text: str
    sent_ms: int


@dataclass(frozen=True, slots=True)
class FileHeard:
    """Somebody gave a file to everybody near; signed, and shown once.

    Attributes:
        peer_id: who.
        message_id: 32 hexadecimal digits.
        file: what; see its ``leaf`` before its name meets a folder.
        sent_ms: when, by the sender's clock.
        directed: whether it was for this node alone, in clear.
        others: fields behind those of the file, by their tags.
    """

    peer_id: bytes
    message_id: str
    file: File
    sent_ms: int
    directed: bool
    others: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class GroupHeard:
    """Something was said to a group; who has its key finds out by whom, and whether it is true.

    Attributes:
        payload: a :class:`~fog_compute.p2p.bitchat.wire.groups.GroupEnvelope`, not yet read.
        sent_ms: when, as the packet says.
    """

    payload: bytes
    sent_ms: int


@dataclass(frozen=True, slots=True)
class HeardPrivately:
    """A peer said something to this node alone; it had the key to.

    Attributes:
        peer_id: who.
        noise_key: the peer's, proved by the session.
        kind: one of :class:`~fog_compute.p2p.bitchat.wire.private.PrivateKind`, or unknown.
        body: what follows the kind.
        sent_ms: when, by the sender's clock; 0 where that is not known.
    """

    peer_id: bytes
    noise_key: bytes
    kind: int
    body: bytes
    sent_ms: int


@dataclass(frozen=True, slots=True)
class MailHeard:
    """Somebody who is not near said something to this node alone; couriers brought it.

    Attributes:
        noise_key: who; proved.
        kind: as in :class:`HeardPrivately`.
        body: what follows the kind.
        envelope: the name of what it came in, 16 bytes; :class:`MailTaken` is told of it.
    """

    noise_key: bytes
    kind: int
    body: bytes
    envelope: bytes


@dataclass(frozen=True, slots=True)
class MailKept:
    """Mail that is carried, or waits for couriers, has changed: keep it for the next start."""

    state: MailState


@dataclass(frozen=True, slots=True)
class SessionReady:
    """There is a session with a peer, who proved this Noise key."""

    peer_id: bytes
    noise_key: bytes


@dataclass(frozen=True, slots=True)
class KeysProved:
    """A peer told its signing key inside a session: it counts more than any announce."""

    peer_id: bytes
    noise_key: bytes
    signing_key: bytes


class SentState(enum.StrEnum):
    """How far something came that was to be sent. That it arrived, only its recipient says."""

    ACCEPTED = "accepted"
    """It is on its way to at least one neighbour."""
    QUEUED = "queued"
    """It waits: for somebody near, or for a session."""
    FAILED = "failed"
    """It cannot be sent."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of something that was to be sent.

    Attributes:
        token: as it was asked with.
        state: how far it came.
        message_id: how others name it; "" where nothing left.
        reason: one line where it failed.
    """

    token: str
    state: SentState
    message_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PartSent:
    """Part of something long was handed to the links; told some fifty times.

    Attributes:
        token: as it was asked with.
        pieces: how many left.
        of: of how many.
    """

    token: str
    pieces: int
    of: int


@dataclass(frozen=True, slots=True)
class Traced:
    """A peer answered.

    Attributes:
        token: as it was asked with.
        peer_id: who.
        hops: links that the answer crossed.
        seconds: from question to answer.
    """

    token: str
    peer_id: bytes
    hops: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ClocksApart:
    """Clocks of neighbours are so far from this node's that nothing gets through, or no more.

    Attributes:
        seconds: by which theirs are ahead, in the middle; negative if behind.
        neighbours: how many there are; none if all is well again.
        everybody: whether all neighbours are so, so that it may be this node's that is wrong.
    """

    seconds: float
    neighbours: int
    everybody: bool

    @property
    def reason(self) -> str | None:
        """Why nobody near can be talked to, and what to do; None if somebody can."""
        if not self.everybody:
            return None
        minutes = max(1, round(abs(self.seconds) / 60))
        way = "behind" if self.seconds > 0 else "ahead of"
        return (
            f"this machine's clock is {minutes} minutes {way} those of all who are near, and phones"
            " refuse what is two minutes off; set the clock that is wrong"
        )


News: TypeAlias = (
    PeerNear
    | PeerAway
    | TextHeard
    | FileHeard
    | GroupHeard
    | HeardPrivately
    | MailHeard
    | MailKept
    | SessionReady
    | KeysProved
    | Sent
    | PartSent
    | Traced
    | ClocksApart
)
