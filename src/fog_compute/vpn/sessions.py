"""Sessions: who shows a token uses one level for a while, by circuits that nobody else has.

What a session may send is bounded by its quota, how many there are by the manager, and for how long
by two times: since it was last used, and since it was opened. A book keeps sessions over a restart:
token, times and account go on, and circuits are new, as after any other while.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from fog_compute.clock import Clock, SystemClock
from fog_compute.errors import FogError, ServiceUnavailable, SessionError
from fog_compute.levels import PrivacyLevel
from fog_compute.observability import get_logger
from fog_compute.vpn.channel import REPLY_PACKET_BYTES
from fog_compute.vpn.circuits import Circuit, Cost
from fog_compute.vpn.onion import OnionCircuitService
from fog_compute.vpn.session_records import (
    SessionBook,
    SessionPolicy,
    SessionRecord,
    SessionStatus,
    giving_way,
    over,
)

__all__ = ["SessionManager"]

T = TypeVar("T")

_log = get_logger("fog_compute.vpn")

SWEEP_S: Final = 5.0

AHEAD_BYTES: Final = 1 << 20
"""How much of a quota is written down as used before it is, so that not each message is written."""

GRAIN: Final = timedelta(minutes=1)
"""How exactly a book knows when a session was used: no better than its time of idleness needs."""

NOT_GOOD: Final = "the session's token is unknown or has expired: open a session"
"""Says the same whether a session ever was."""


@dataclass(slots=True)
class _Session:
    """A session as the manager keeps it.

    Attributes:
        id: the part of its token that is shown.
        digest: the SHA-256 of the part that is not.
        circuits: what the pool knows it by, which is told nobody.
        reserved: bytes that answers under way may bring.
        charged: bytes of the quota that the book has as used.
        joined: whether it has circuits; one of the run before gets them when it is used.
        joining: held while it gets them.
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
    charged: int = 0
    joined: bool = True
    joining: asyncio.Lock = field(default_factory=asyncio.Lock)

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

    __slots__ = ("_book", "_clock", "_gone", "_kept", "_onion", "_policy", "_sessions")

    def __init__(
        self,
        onion: OnionCircuitService,
        *,
        policy: SessionPolicy | None = None,
        clock: Clock | None = None,
        book: SessionBook | None = None,
    ) -> None:
        """Know no session yet; see :meth:`restore`. Without a ``book`` none survives a restart."""
        self._onion: Final = onion
        self._policy: Final = SessionPolicy() if policy is None else policy
        self._clock: Final = SystemClock() if clock is None else clock
        self._sessions: Final[dict[str, _Session]] = {}
        self._book: Final = book
        self._kept: Final[dict[str, SessionRecord]] = {}
        self._gone: Final[set[str]] = set()
        """Sessions that ended, and that the book may still have."""

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
        await self._keep_all()
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
        """End what is over by its times, and keep what changed."""
        for status in self.sessions():
            session = self._sessions.get(status.id)
            if session is not None and over(status, self._policy):
                await self._end(session)
        await self._keep_all()

    async def restore(self) -> None:
        """Take over the sessions of the run before, as far as their times are not over.

        Raises:
            FogError: the book cannot be read now.
        """
        if self._book is None:
            return
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for record in await self._book.load():
            session = _Session(
                id=record.id,
                digest=record.digest,
                circuits=secrets.token_hex(16),
                level=record.level,
                apart=record.apart,
                opened_at=monotonic - max(timedelta(), now - record.opened_at).total_seconds(),
                used_at=monotonic - max(timedelta(), now - record.used_at).total_seconds(),
                quota_bytes=record.quota_bytes,
                bytes_sent=record.bytes_sent,
                bytes_received=record.bytes_received,
                charged=record.bytes_sent + record.bytes_received,
                joined=False,
            )
            if over(session.status(monotonic), self._policy):
                self._gone.add(record.id)
            else:
                self._sessions[record.id] = session
                self._kept[record.id] = record
        await self._keep_all()

    async def settle(self) -> None:
        """Keep exact accounts: nothing is sent any more."""
        for session in self._sessions.values():
            session.charged = 0
        await self._keep_all()

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
                await self._ready(session, size)
                pool = self._onion.circuit_pools[session.level]
                return await pool.carry(session.circuits, cost, work)
        finally:
            session.reserved -= expected

    async def _ready(self, session: _Session, size: int) -> None:
        """See to it that a session has circuits, and that its book knows what it may use."""
        try:
            async with session.joining:
                if not session.joined:
                    await self._onion.circuit_pools[session.level].join(
                        session.circuits, circuits=self._policy.circuits, apart=session.apart
                    )
                    session.joined = True
            await self._charge(session)
        except BaseException:
            session.bytes_sent -= size  # nothing was sent
            raise
        if self._sessions.get(session.id) is not session:
            raise SessionError(NOT_GOOD)  # it ended meanwhile

    async def _charge(self, session: _Session) -> None:
        """Have written down what a session may use of its quota, before it does.

        Raises:
            FogError: it cannot be written now.
        """
        quota, left = session.quota_bytes, session.left
        if self._book is None or quota is None or left is None or quota - left <= session.charged:
            return
        session.charged = min(quota, quota - left + AHEAD_BYTES)
        record = self._record(session)
        await self._book.keep([record])
        self._note_kept([record])

    async def _keep_all(self) -> None:
        """Bring the book up to date; where it cannot be written now, the next time does it."""
        if self._book is None:
            return
        gone = set(self._gone)
        records = [self._record(session) for session in self._sessions.values()]
        changed = [record for record in records if self._kept.get(record.id) != record]
        try:
            if gone:
                await self._book.forget(gone)
                self._gone.difference_update(gone)
            if changed:
                await self._book.keep(changed)
        except FogError as error:
            _log.warning("sessions.not_kept", reason=str(error))
            return
        self._note_kept(changed)

    def _note_kept(self, records: Sequence[SessionRecord]) -> None:
        """Remember what the book has; one that ended while it was written has to go again."""
        for record in records:
            if record.id in self._sessions:
                self._kept[record.id] = record
            else:
                self._gone.add(record.id)

    def _record(self, session: _Session) -> SessionRecord:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        used = now - timedelta(seconds=monotonic - session.used_at)
        return SessionRecord(
            id=session.id,
            digest=session.digest,
            level=session.level,
            apart=session.apart,
            opened_at=_whole(now - timedelta(seconds=monotonic - session.opened_at), SECOND),
            used_at=_whole(used, GRAIN),
            quota_bytes=session.quota_bytes,
            bytes_sent=max(session.bytes_sent, session.charged - session.bytes_received),
            bytes_received=session.bytes_received,
        )

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
            self._kept.pop(session.id, None)
            self._gone.add(session.id)
            if session.joined:
                await self._onion.circuit_pools[session.level].leave(session.circuits)
            await self._keep_all()


_NOBODY: Final = bytes(32)
"""No secret has this digest."""


def _whole(at: datetime, grain: timedelta) -> datetime:
    """The end of the span of time in which a moment lies."""
    return EPOCH - (EPOCH - at) // grain * grain


EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
