"""Sessions: who shows a token uses one level for a while, by circuits that nobody else has.

A session lives in memory only. What it may send is bounded by its quota, how many there are by the
manager, and for how long by two times: since it was last used, and since it was opened.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from fog_compute.clock import Clock, SystemClock
from fog_compute.errors import ServiceUnavailable, SessionError
from fog_compute.levels import PrivacyLevel
from fog_compute.vpn.channel import REPLY_PACKET_BYTES
from fog_compute.vpn.circuits import Circuit, Cost
from fog_compute.vpn.onion import OnionCircuitService

__all__ = ["SessionManager", "SessionPolicy", "SessionStatus", "giving_way", "over"]

T = TypeVar("T")

SWEEP_S: Final = 5.0
NOT_GOOD: Final = "the session's token is unknown or has expired: open a session"
"""Says the same whether a session ever was."""


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


def over(session: SessionStatus, policy: SessionPolicy) -> bool:
    """Whether a session has ended by its times; one with messages under way is not idle."""
    idle = not session.in_flight and session.idle_s >= policy.idle_s
    return idle or session.age_s >= policy.lifetime_s


def giving_way(sessions: Collection[SessionStatus]) -> SessionStatus | None:
    """The session that goes where there is no room: the longest idle. None if all are in use."""
    idle = [session for session in sessions if not session.in_flight]
    return max(idle, key=lambda session: (session.idle_s, session.age_s), default=None)


@dataclass(slots=True)
class _Session:
    """A session as the manager keeps it.

    Attributes:
        id: the part of its token that is shown.
        digest: the SHA-256 of the part that is not.
        circuits: what the pool knows it by, which is told nobody.
        reserved: bytes that answers under way may bring.
    """

    id: str
    digest: bytes
    circuits: str
    level: PrivacyLevel
    apart: bool
    opened_at: float
    used_at: float
    quota_bytes: int | None
    bytes_sent: int = 0
    bytes_received: int = 0
    in_flight: int = 0
    reserved: int = 0

    def status(self, now: float) -> SessionStatus:
        return SessionStatus(
            id=self.id,
            level=self.level,
            apart=self.apart,
            age_s=now - self.opened_at,
            idle_s=now - self.used_at,
            in_flight=self.in_flight,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            quota_bytes=self.quota_bytes,
        )

    @property
    def left(self) -> int | None:
        """Bytes of the quota that nothing has a claim to."""
        if self.quota_bytes is None:
            return None
        return self.quota_bytes - self.bytes_sent - self.bytes_received - self.reserved


class SessionManager:
    """Opens, authenticates, counts and ends sessions over one onion circuit service."""

    __slots__ = ("_clock", "_onion", "_policy", "_sessions")

    def __init__(
        self,
        onion: OnionCircuitService,
        *,
        policy: SessionPolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._onion: Final = onion
        self._policy: Final = SessionPolicy() if policy is None else policy
        self._clock: Final = SystemClock() if clock is None else clock
        self._sessions: Final[dict[str, _Session]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    async def open(
        self, level: PrivacyLevel, *, apart: bool = False, quota_bytes: int | None = None
    ) -> str:
        """Open a session; return its token, which is kept nowhere.

        Args:
            level: its privacy level, for good.
            apart: give it a client of its own, with fresh keys, mailboxes and edges, so that no
                edge can tell by them that it belongs to others. More edges see this machine then.
            quota_bytes: how much it may send and receive together.

        Raises:
            ServiceUnavailable: all sessions are in use, or the network cannot be joined.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        await self._make_room(apart)
        secret = secrets.token_urlsafe(32)
        now = self._clock.monotonic()
        session = _Session(
            id=secrets.token_hex(8),
            digest=_digest(secret),
            circuits=secrets.token_hex(16),
            level=level,
            apart=apart,
            opened_at=now,
            used_at=now,
            quota_bytes=quota_bytes,
        )
        self._sessions[session.id] = session
        try:
            with self._in_use(session):
                await self._onion.circuit_pools[level].join(
                    session.circuits, circuits=self._policy.circuits, apart=apart
                )
        except BaseException:
            del self._sessions[session.id]
            raise
        return f"{session.id}.{secret}"

    async def change_level(self, token: str, level: PrivacyLevel) -> str:
        """End a session, and open another one at ``level`` for what is left of its quota.

        Nothing ties the two together but who uses them: circuits, and a client of its own, are
        others. The former session stays where the new one cannot be opened.

        Raises:
            SessionError: the token is not good.
            ServiceUnavailable: all sessions are in use, or the network cannot be joined.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        former = self._authenticated(token)
        left = former.left
        former.reserved += left or 0  # for the new one: it is spent once
        try:
            with self._in_use(former):
                made = await self.open(level, apart=former.apart, quota_bytes=left)
        except BaseException:
            former.reserved -= left or 0
            raise
        await self._end(former)
        return made

    async def send(self, token: str, data: bytes, *, to: str | None = None) -> None:
        """Send ``data``; without ``to`` as a loop to the own mailbox.

        Raises:
            SessionError: the token is not good, or the quota does not cover this.
            ChannelError: the message could not be sent.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        await self._carry(
            self._authenticated(token),
            Cost.of(len(data)),
            len(data),
            lambda circuit: circuit.send(to, data),
        )

    async def request(
        self,
        token: str,
        data: bytes,
        *,
        to: str,
        reply_packets: int = 4,
        timeout: float = 30.0,
    ) -> bytes:
        """Ask ``to`` and return its answer.

        Raises:
            SessionError: the token is not good, or the quota covers the question and the longest
                answer to it no more.
            ChannelTimeout: no answer came in time.
            ChannelError: the message could not be sent.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        session = self._authenticated(token)
        answer = await self._carry(
            session,
            Cost.of(len(data), reply_packets),
            len(data),
            lambda circuit: circuit.request(to, data, reply_packets=reply_packets, timeout=timeout),
        )
        session.bytes_received += len(answer)
        return answer

    async def close(self, token: str) -> None:
        """End a session; what is under way goes on, unless it has a client of its own.

        Raises:
            SessionError: the token is not good.
        """
        await self._end(self._authenticated(token))

    def show(self, token: str) -> SessionStatus:
        """How a session is.

        Raises:
            SessionError: the token is not good.
        """
        return self._authenticated(token).status(self._clock.monotonic())

    def sessions(self) -> tuple[SessionStatus, ...]:
        """All sessions, without their tokens."""
        now = self._clock.monotonic()
        return tuple(session.status(now) for session in self._sessions.values())

    async def sweep(self) -> None:
        """End what is over by its times."""
        for status in self.sessions():
            session = self._sessions.get(status.id)
            if session is not None and over(status, self._policy):
                await self._end(session)

    async def run(self) -> None:
        """Sweep again and again; never ends."""
        while True:
            await self._clock.sleep(SWEEP_S)
            await self.sweep()

    def _authenticated(self, token: str) -> _Session:
        """The session of a token; how long the look takes tells nothing of the secret."""
        name, _, secret = token.partition(".")
        session = self._sessions.get(name)
        known = _NOBODY if session is None else session.digest
        good = hmac.compare_digest(_digest(secret), known)
        if session is None or not good:
            raise SessionError(NOT_GOOD)
        if over(session.status(self._clock.monotonic()), self._policy):
            raise SessionError(NOT_GOOD)
        return session

    async def _carry(
        self,
        session: _Session,
        cost: Cost,
        size: int,
        work: Callable[[Circuit], Awaitable[T]],
    ) -> T:
        expected = cost.surbs * REPLY_PACKET_BYTES
        if session.left is not None and size + expected > session.left:
            raise SessionError(
                f"the session's quota has {session.left} bytes left, and this may take "
                f"{size + expected}: open another session"
            )
        session.bytes_sent += size
        session.reserved += expected
        try:
            with self._in_use(session):
                pool = self._onion.circuit_pools[session.level]
                return await pool.carry(session.circuits, cost, work)
        finally:
            session.reserved -= expected

    @contextmanager
    def _in_use(self, session: _Session) -> Iterator[None]:
        session.in_flight += 1
        session.used_at = self._clock.monotonic()
        try:
            yield
        finally:
            session.in_flight -= 1
            session.used_at = self._clock.monotonic()

    async def _make_room(self, apart: bool) -> None:
        """End sessions that are over, and the longest idle one if that is not enough."""
        await self.sweep()
        while True:
            held: Collection[SessionStatus] = self.sessions()
            if len(held) < self._policy.most:
                held = [session for session in held if session.apart] if apart else ()
                if len(held) < self._policy.most_apart:
                    return  # and nobody else has a turn before the place is taken
            going = giving_way(held)
            if going is None:
                raise ServiceUnavailable(
                    f"there are {len(held)} sessions"
                    f"{' with a client of their own' if apart else ''}, and all are in use: "
                    "close one, or wait"
                )
            await self._end(self._sessions[going.id])

    async def _end(self, session: _Session) -> None:
        if self._sessions.pop(session.id, None) is not None:
            await self._onion.circuit_pools[session.level].leave(session.circuits)


_NOBODY: Final = bytes(32)
"""No secret has this digest."""


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
