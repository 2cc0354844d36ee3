"""One person's messages and contacts, as the HTTP interface shows and changes them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock
from fog_compute.errors import NotFound, StoreError
from fog_compute.levels import PrivacyLevel
from fog_compute.observability import get_logger
from fog_compute.observability.metrics import ChatMetrics
from fog_compute.p2p.bitchat.mesh.news import Traced
from fog_compute.p2p.core.book import LogEntry
from fog_compute.p2p.core.cards import ContactCard
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.messages import MAX_BODY_BYTES, DecentralizedMessage, InvalidMessage
from fog_compute.p2p.core.peer import Peer, Trust
from fog_compute.p2p.core.transport import (
    EVERYBODY,
    Reach,
    TransportCapabilities,
    TransportType,
    TransportUnavailable,
)
from fog_compute.p2p.mobile.web_links import WebLinks
from fog_compute.p2p.unified import UnifiedDecentralizedSystem
from fog_compute.rooms import ALL_NEAR
from fog_compute.server.chat_feed import ChatFeed, Cursor
from fog_compute.server.chat_schemas import (
    ChatEventOut,
    GroupListOut,
    GroupOut,
    LogOut,
    MeOut,
    MessageOut,
    NearOut,
    NearPeer,
    SentOut,
    TraceOut,
    TransportOut,
)
from fog_compute.server.peer_schemas import PeerOut
from fog_compute.text import one_line

__all__ = ["People", "newest_of"]

Unless: TypeAlias = Callable[[Coroutine[object, object, object]], Awaitable[object]]


_log = get_logger("fog_compute.server")

PAUSES: Final = Backoff(0.5, 30.0)
"""Between tries to read the log."""

NOTHING: Final[Mapping[TransportType, str]] = {}

TRACE_S: Final = 10.0
"""How long the answer to a trace is waited for."""


class People:
    """One person's messages and contacts.

    Attributes:
        feed: tells who listens.
    """

    def __init__(
        self,
        system: UnifiedDecentralizedSystem,
        level: PrivacyLevel,
        clock: Clock,
        newest: int,
        metrics: ChatMetrics,
    ) -> None:
        """Show and change what a system that runs has, of whose log ``newest`` is the last."""
        self._system: Final = system
        self._level: Final = level
        self._clock: Final = clock
        self._metrics: Final = metrics
        self._traces: Final[dict[str, asyncio.Future[Traced]]] = {}
        self.feed: Final = ChatFeed(self, newest)

    @property
    def book(self) -> PeerBook:
        """Whom one knows; what is changed with `change` is kept."""
        return self._system.contacts

    @property
    def browsers(self) -> WebLinks | None:
        """The links of browsers to the mesh, if there is one."""
        return self._system.ways.web

    async def follow(self) -> None:
        """Tell the feed what happens, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_log())
            tasks.create_task(self._follow_progress())

    async def check(self) -> dict[TransportType, str]:
        """Of transports that seem ready and do not answer: why. Asks them; takes some seconds."""
        htx = self._system.ways.htx
        why = None if htx is None else await htx.check()
        return {TransportType.BETANET_HTX: why} if why else {}

    def me(self, silent: Mapping[TransportType, str] = NOTHING) -> MeOut:
        """Who one is here; ``silent`` transports do not answer."""
        card = self._card()
        return MeOut(
            fingerprint=self._system.identity.fingerprint,
            name=self._system.name,
            words=list(self._system.identity.words),
            card=None if card is None else card.text,
            level=self._level,
            transports=TransportOut.all_of(self._capabilities(silent)),
            waiting=self._system.waiting,
            outbox=dict(self._system.deliveries),
            max_file_bytes=MAX_BODY_BYTES,
        )

    async def change(self, work: Callable[[int], Peer]) -> Peer:
        """Change the book, given the time in Unix milliseconds, and see it kept."""
        peer = work(self._now_ms())
        await self._system.save_contacts()
        return peer

    def expiry(self, lasts_s: float) -> int:
        """When a message ends that is to last so long, Unix milliseconds; 0 for the longest."""
        return self._now_ms() + round(lasts_s * 1000) if lasts_s else 0

    async def send(self, message: DecentralizedMessage, *, unknown: bool = False) -> SentOut:
        """Send a message; ``unknown`` lets it go also to somebody who is not in the book.

        Raises:
            NotFound: the recipient is unknown.
        """
        if message.receiver_id is not None and not unknown:
            self._check_known([message.receiver_id])
        sent = await self._system.send_message(message)
        self.feed.news(await newest_of(self._system))
        receivers = self._receivers(message)
        found = {one or ALL_NEAR: self._why_waiting(sent, one) for one in receivers}
        return SentOut(
            id=sent,
            receivers=list(found),
            reasons={one: why for one, why in found.items() if why},
        )

    async def cancel(self, ids: Sequence[str], to: str | None, room: str | None) -> list[str]:
        """Give messages up: some, or all to a person, or to a room; return which.

        Raises:
            InvalidMessage: it is not said which, or twice.
        """
        if bool(ids) + (to is not None) + (room is not None) != 1:
            raise InvalidMessage("give `ids`, `to` or `room`, and one of them")
        if ids:
            return sorted(await self._system.cancel(*ids))
        return sorted(await self._system.cancel_to(to, room or ""))

    async def log(self, after: int, limit: int, *, peer: str | None, room: str | None) -> LogOut:
        """The newest messages behind a position, oldest first."""
        newest = await newest_of(self._system)
        found = await self._system.log(after, limit, room=room, person=peer, last=True)
        behind = max(after, newest, *(one.position for one in found))
        return LogOut(messages=[self._shown(one) for one in found], next=behind)

    async def shown_log(self, after: int, limit: int) -> list[MessageOut]:
        """The next messages behind a position."""
        found = await self._system.log(after, limit)
        return [self._shown(one) for one in found]

    async def content(self, sender: str, message_id: str) -> bytes | None:
        """What is in a message; None where there is none."""
        found = await self._system.content(sender, message_id)
        return None if found is None else found.body

    async def read(self, sender: str, ids: Sequence[str]) -> None:
        """Tell a sender that messages were read."""
        await self._system.mark_read(sender, ids)

    async def wait(
        self, cursor: Cursor, seconds: float, unless: Unless
    ) -> tuple[list[ChatEventOut], Cursor]:
        """What happens after a cursor within some seconds, or until ``unless`` ends the wait."""
        found: list[ChatEventOut] = []

        async def waiting() -> None:
            nonlocal cursor
            try:
                async with asyncio.timeout(seconds):
                    events, cursor = await self.feed.wait(cursor)
                    found.extend(events)
            except TimeoutError:
                pass

        await unless(waiting())
        return found, cursor

    def groups(self) -> GroupListOut:
        """The groups that one is in."""
        groups = self._system.groups
        rosters = [one for group in groups if (one := groups.roster(group)) is not None]
        rosters.sort(key=lambda one: (one.name, one.id))
        return GroupListOut(groups=[GroupOut.of(one) for one in rosters])

    async def make_group(self, name: str, members: Sequence[str]) -> str:
        """Make a group; return its id.

        Raises:
            NotFound: a member is unknown.
            NameTaken: one is in another group of this name.
        """
        return await self._system.make_group(name, members)

    async def change_group(self, group: str, name: str, members: Sequence[str]) -> None:
        """Change a group that one made.

        Raises:
            NotFound: there is no such group, or a new member is unknown.
            NameTaken: one is in another group of the new name.
        """
        await self._system.change_group(group, name, members)

    async def leave_group(self, group: str) -> None:
        """Be in a group no more.

        Raises:
            NotFound: there is no such group.
        """
        await self._system.leave_group(group)

    def near(self, silent: Mapping[TransportType, str] = NOTHING) -> NearOut:
        """Who can be reached now; ``silent`` transports do not answer."""
        reaches = self._system.reaches()
        found = [
            NearPeer(peer=PeerOut.of(peer), ways=ways)
            for peer in self.book
            if not peer.blocked and (ways := _ways(reaches.get(peer.fingerprint, {}), silent))
        ]
        return NearOut(
            peers=sorted(found, key=lambda one: one.peer.shown.lower()),
            reasons={
                kind.value: can.unavailable_because
                for kind, can in self._capabilities(silent).items()
                if can.unavailable_because is not None
            },
        )

    async def trace(self, fingerprint: str) -> TraceOut:
        """How a message to somebody would go; the mixnet and the mesh are asked.

        Raises:
            NotFound: nobody is known by this fingerprint.
        """
        peer = self.book.get(fingerprint)
        if peer is None:
            raise NotFound(f"nobody has the fingerprint {fingerprint}")
        silent = await self.check()
        ways = _ways(self._system.reaches().get(fingerprint, {}), silent)
        found = await self._ask_mesh(fingerprint) if TransportType.BITCHAT_BLE in ways else None
        return TraceOut(
            peer=PeerOut.of(peer),
            ways=ways,
            hops=None if found is None else found[0],
            round_trip_ms=None if found is None else found[1] * 1000,
            reasons={
                kind.value: can.unavailable_because or self._why(peer, kind)
                for kind, can in self._capabilities(silent).items()
                if kind.value not in ways
            },
        )

    async def _follow_log(self) -> None:
        """Tell of what comes; while the log cannot be read, it is tried again."""
        failures = 0
        while True:
            try:
                newest = await newest_of(self._system)
                self.feed.news(newest)
                async for entry in self._system.arrivals(newest):
                    self.feed.news(entry.position)
                    self._metrics.received.inc()
                    failures = 0
            except StoreError as error:
                _log.warning("chat.log_unread", error=type(error).__name__)
                await self._clock.sleep(PAUSES.after(failures))
                failures += 1
            else:
                return

    async def _follow_progress(self) -> None:
        async for one in self._system.progress():
            if one.size:
                self.feed.moved(one.id, one.receiver or ALL_NEAR, one.sent, one.size)
                continue  # it is the same state
            name = None if one.transport is None else one.transport.value
            self._metrics.moves.labels(name or "none", one.state.value).inc()
            self.feed.progress(one.id, one.receiver or ALL_NEAR, one.state, name, one.reason)

    async def _ask_mesh(self, fingerprint: str) -> tuple[int, float] | None:
        """How many links away somebody is, and how many seconds; None without an answer."""
        mesh = self._system.ways.mesh
        if mesh is None:
            return None
        token = secrets.token_hex(8)
        answer = self._traces[token] = asyncio.get_running_loop().create_future()
        mesh.on_traced = self._traced
        try:
            mesh.trace(fingerprint, token)
            async with asyncio.timeout(TRACE_S):
                found = await answer
        except (TimeoutError, TransportUnavailable):
            return None
        finally:
            del self._traces[token]
        return found.hops, found.seconds

    def _traced(self, found: Traced) -> None:
        answer = self._traces.get(found.token)
        if answer is not None and not answer.done():
            answer.set_result(found)

    def _capabilities(
        self, silent: Mapping[TransportType, str]
    ) -> dict[TransportType, TransportCapabilities]:
        return {
            kind: replace(can, unavailable_because=silent[kind]) if kind in silent else can
            for kind, can in self._system.capabilities().items()
        }

    def _check_known(self, fingerprints: Sequence[str]) -> None:
        for one in fingerprints:
            if one != self._system.identity.fingerprint and self.book.get(one) is None:
                raise NotFound(
                    f"nobody here knows the fingerprint {one_line(one, 64)}: add their card, or"
                    " give `unknown` if it is meant"
                )

    def _receivers(self, message: DecentralizedMessage) -> list[str]:
        """To whom a message goes that was just sent."""
        if message.receiver_id is not None:
            return [message.receiver_id]
        if not message.room:
            return [EVERYBODY]
        members = self._system.groups.get(message.room) or ()
        return [one for one in members if one != self._system.identity.fingerprint]

    def _why_waiting(self, sent: str, receiver: str) -> str:
        why = self._system.why(sent, receiver)
        return why or (self._nobody_near() if receiver == EVERYBODY else "")

    def _nobody_near(self) -> str:
        reached = self._system.reaches().values()
        near = (Reach.MESH, Reach.DIRECT)
        if any(ways.get(TransportType.BITCHAT_BLE) in near for ways in reached):
            return ""
        return "nobody is near who hears it"

    def _card(self) -> ContactCard | None:
        htx = self._system.ways.htx
        return None if htx is None else htx.card

    def _why(self, peer: Peer, kind: TransportType) -> str:
        if kind is TransportType.BITCHAT_BLE:
            return "they were not heard within the last minute"
        if not peer.addresses:
            return "no address of theirs is known: ask for their card"
        theirs = ", ".join(level.name for level in peer.addresses)
        return f"they take messages at {theirs}, and not at {self._level.name}"

    def _shown(self, entry: LogEntry) -> MessageOut:
        sender = entry.message.sender
        if entry.outgoing:
            return MessageOut.of(entry, self._system.name or "you", known=True)
        peer = self.book.get(sender)
        if peer is None:
            # Of somebody who is in a group with one, its maker says what they are called.
            roster = self._system.groups.roster(entry.message.room)
            member = None if roster is None else roster.member(sender)
            name = (member is not None and member.name) or "somebody"
            return MessageOut.of(entry, f"{name}#{sender[:4]}", known=False)
        return MessageOut.of(entry, peer.shown, known=peer.trust is not Trust.STRANGER)

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


async def newest_of(system: UnifiedDecentralizedSystem) -> int:
    """The last position in the log of a system."""
    found = await system.log(0, 1, last=True)
    return found[-1].position if found else 0


def _ways(
    reaches: Mapping[TransportType, Reach], silent: Mapping[TransportType, str]
) -> dict[str, str]:
    return {
        kind.value: reach.name.lower()
        for kind, reach in reaches.items()
        if reach is not Reach.NONE and kind not in silent
    }
