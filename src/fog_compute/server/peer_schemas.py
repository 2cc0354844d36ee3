"""What the HTTP interface takes and gives of people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Self

from pydantic import Field

from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.core.cards import MAX_CARD_CHARS
from fog_compute.p2p.core.peer import Peer, Proof, Trust
from fog_compute.server.forms import VISIBLE
from fog_compute.server.schemas import In, Out

__all__ = ["BlockIn", "CardIn", "NameIn", "PeerOut", "PeersOut", "WordsIn", "stamp"]

MAX_NAME: Final = 80


class CardIn(In):
    """Somebody's contact card."""

    card: str = Field(
        min_length=1, max_length=2 * MAX_CARD_CHARS, description="Its text, `fogcard1…`."
    )
    petname: str = Field(
        "", max_length=MAX_NAME, pattern=VISIBLE, description="What one calls them oneself."
    )


class NameIn(In):
    """A name of one's own for somebody."""

    petname: str = Field(
        max_length=MAX_NAME, pattern=VISIBLE, description="Empty: what they call themselves."
    )


class WordsIn(In):
    """The words that somebody read aloud."""

    words: list[str] = Field(max_length=32, description="Twelve; three letters of each are enough.")


class BlockIn(In):
    """Whether somebody is blocked."""

    blocked: bool = Field(True, description="Nothing of a blocked person's is shown.")


class PeerOut(Out):
    """Somebody whom one knows, or has met."""

    fingerprint: str = Field(description="Names them everywhere: 64 hexadecimal digits.")
    peer_id: str = Field(description="Names them on Bluetooth: the first 16 of these digits.")
    shown: str = Field(
        description="What people call them: one's own name, or theirs; behind a stranger's stand"
        " the first four digits."
    )
    name: str = Field(description="What they call themselves: anybody can take any name.")
    petname: str
    trust: Trust = Field(
        description="`stranger`: met. `contact`: a card was added. `verified`: words were compared."
    )
    proof: str = Field(
        description="What says that their two keys belong together: `announced`, `session` or"
        " `derived`, the best last."
    )
    blocked: bool
    words: list[str] = Field(description="What they read aloud when they are verified.")
    levels: list[PrivacyLevel] = Field(description="Privacy levels of their addresses.")
    first_seen_at: datetime | None
    last_seen_at: datetime | None = Field(description="To the minute.")
    key_refused_at: datetime | None = Field(
        description="When another signing key was last shown in their name, and refused."
    )

    @classmethod
    def of(cls, peer: Peer) -> Self:
        """Return what is shown of somebody."""
        return cls(
            fingerprint=peer.fingerprint,
            peer_id=peer.peer_id,
            shown=peer.shown,
            name=peer.name,
            petname=peer.petname,
            trust=peer.trust,
            proof=Proof(peer.proof).name.lower(),
            blocked=peer.blocked,
            words=list(peer.words),
            levels=sorted(peer.addresses, key=lambda level: level.hops),
            first_seen_at=stamp(peer.first_seen_ms),
            last_seen_at=stamp(peer.last_seen_ms),
            key_refused_at=stamp(peer.conflict_ms),
        )


class PeersOut(Out):
    """Everybody whom one knows or has met: contacts first, by name."""

    peers: list[PeerOut]


def stamp(ms: int) -> datetime | None:
    """A time of Unix milliseconds; None for 0."""
    return datetime.fromtimestamp(ms / 1000, UTC) if ms else None
