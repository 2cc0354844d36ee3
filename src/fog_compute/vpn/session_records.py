"""What sessions are told and kept by, and the two rules of who has to go."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from fog_compute.levels import PrivacyLevel

__all__ = [
    "SessionBook",
    "SessionPolicy",
    "SessionRecord",
    "SessionStatus",
    "giving_way",
    "over",
]


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """The bounds of all sessions.

    Attributes:
        idle_s: seconds without a message after which a session ends.
        lifetime_s: seconds after which it ends in any case.
        most: sessions at a time.
        most_apart: sessions at a time that have a client of their own.
        circuits: circuits that each has in use.
    """

    idle_s: float = 900.0
    lifetime_s: float = 86_400.0
    most: int = 256
    most_apart: int = 8
    circuits: int = 2


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """A session, without what would let somebody use it.

    Attributes:
        id: tells it from others; no part of its token is in it but this.
        level: its privacy level.
        apart: whether it has a client of its own.
        age_s: seconds since it was opened.
        idle_s: seconds since its last message began or ended.
        in_flight: messages under way.
        bytes_sent: bytes of all its messages, whatever became of them.
        bytes_received: bytes of answers.
        quota_bytes: how much both may be together; None if nobody set a bound.
    """

    id: str
    level: PrivacyLevel
    apart: bool
    age_s: float
    idle_s: float
    in_flight: int
    bytes_sent: int
    bytes_received: int
    quota_bytes: int | None


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as a book keeps it: nothing by which it could be used, or that it did.

    Attributes:
        id: the part of its token that is shown.
        digest: the SHA-256 of the part that is not.
        level: its privacy level.
        apart: whether it has a client of its own.
        opened_at: when.
        used_at: about when it was used last.
        quota_bytes: how much it may send and receive together; None if nobody set a bound.
        bytes_sent: what it sent; with a quota, what it may have sent at most.
        bytes_received: bytes of answers.
    """

    id: str
    digest: bytes = field(repr=False)
    level: PrivacyLevel
    apart: bool
    opened_at: datetime
    used_at: datetime
    quota_bytes: int | None
    bytes_sent: int
    bytes_received: int


class SessionBook(Protocol):
    """Keeps sessions for the next run."""

    async def load(self) -> Sequence[SessionRecord]:
        """All that are kept.

        Raises:
            FogError: they cannot be read now.
        """
        ...

    async def keep(self, records: Sequence[SessionRecord]) -> None:
        """Keep sessions as they are now; on disk when this returns.

        Raises:
            FogError: they cannot be written now.
        """
        ...

    async def forget(self, ids: Collection[str]) -> None:
        """Keep these sessions no longer.

        Raises:
            FogError: that cannot be written now.
        """
        ...


def over(session: SessionStatus, policy: SessionPolicy) -> bool:
    """Whether a session has ended by its times; one with messages under way is not idle."""
    idle = not session.in_flight and session.idle_s >= policy.idle_s
    return idle or session.age_s >= policy.lifetime_s


def giving_way(sessions: Collection[SessionStatus]) -> SessionStatus | None:
    """The session that goes where there is no room: the longest idle. None if all are in use."""
    idle = [session for session in sessions if not session.in_flight]
    return max(idle, key=lambda session: (session.idle_s, session.age_s), default=None)
