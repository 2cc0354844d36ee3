"""One messaging system over all transports: who sends says to whom, and not by what.

    async with UnifiedDecentralizedSystem(betanet_service, config, store=store) as system:
        await system.send_message(DecentralizedMessage(body=b"hello", receiver_id=fingerprint))
        async for entry in system.arrivals():
            print(entry.message.text)

What was sent is kept before `send_message` returns. It goes out when its recipient can be reached,
also after a restart; what comes is in the log before anybody on the way forgets it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import msgspec

from fog_compute.clock import Clock, SystemClock
from fog_compute.errors import FogError, ServiceUnavailable
from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.contact_keeper import ContactKeeper, standing_of
from fog_compute.p2p.core.actions import Action, Progress
from fog_compute.p2p.core.background import background
from fog_compute.p2p.core.book import LogEntry
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.identity import Identity, IdentityFile
from fog_compute.p2p.core.manager import TransportManager
from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState
from fog_compute.p2p.core.router import Router, RouterPolicy
from fog_compute.p2p.core.transport import (
    Reach,
    TransportCapabilities,
    TransportInterface,
    TransportType,
)
from fog_compute.p2p.driver import RouterDriver
from fog_compute.p2p.own_groups import OwnGroups
from fog_compute.p2p.store_book import StoreBook
from fog_compute.p2p.ways import Ways, make_ways
from fog_compute.p2p.wiping import Wiping
from fog_compute.store import Store
from fog_compute.threads import in_thread

if TYPE_CHECKING:
    from fog_compute.p2p.htx.mixnet import MixnetService

__all__ = ["UnifiedDecentralizedSystem", "UnifiedP2PConfig"]

SWEEP_S: Final = 3600.0
PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class UnifiedP2PConfig:
    """How one person's messages are sent.

    Attributes:
        identity_file: where the person's keys are; made if there is none.
        card_file: where the own contact card is kept.
        name: under which others see the person; "" for the one of before.
        level: of messages over the mixnet; both sides need the same.
        policy: bounds and times of the router.
        keep_days: how long messages that are over stay in the log.
        ble: whether Bluetooth is used, where there is an adapter.
        adapter: which; "" for what the system offers.
        mail_file: where it is kept what the mesh carries for others; nowhere without one.
        islands: the fingerprints of those whose island of the mesh ours is joined with.
    """

    identity_file: Path
    card_file: Path
    name: str = ""
    level: PrivacyLevel = PrivacyLevel.PRIVATE
    policy: RouterPolicy = field(default_factory=RouterPolicy)
    keep_days: int = 90
    ble: bool = False
    adapter: str = ""
    mail_file: Path | None = None
    islands: tuple[str, ...] = ()


class UnifiedDecentralizedSystem:
    """One person's messages, contacts and groups."""

    def __init__(
        self,
        betanet_service: MixnetService | None,
        config: UnifiedP2PConfig,
        *,
        store: Store,
        transports: Sequence[TransportInterface] | None = None,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            betanet_service: the mixnet; None to do without.
            config: who, and how.
            store: where everything is kept.
            transports: instead of those that are made by themselves.
            clock: what time it is.
            rng: draws streams and pauses.
        """
        self._service: Final = betanet_service
        self._config: Final = config
        self._store: Final = store
        self._given: Final = transports
        self._clock: Final = SystemClock() if clock is None else clock
        self._rng: Final = SystemRandom() if rng is None else rng
        self._parts: _Parts | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read keys and book, and begin to send and to take.

        Raises:
            HomeUnusable: the keys cannot be read or made.
            StoreError: the book cannot be read.
        """
        if self._parts is not None:
            return
        config, now = self._config, self._clock.now().timestamp()
        wiping = self._wiping()
        if await wiping.begun():
            await wiping.run()
        identity, name = await in_thread(
            IdentityFile(config.identity_file).load_or_make, config.name
        )
        book = StoreBook(self._store.messages, identity.fingerprint, keep_days=config.keep_days)
        contacts = PeerBook(await book.load_peers(), own=identity.fingerprint)
        groups = Groups(identity.fingerprint)
        router = Router(
            identity.fingerprint,
            await book.load(now),
            now,
            self._rng,
            config.policy,
            {one.fingerprint: standing_of(one) for one in contacts},
            groups,
        )
        manager = TransportManager(self._clock, self._rng)
        driver = RouterDriver(router, identity.fingerprint, book, manager, self._clock)
        ways = Ways()
        if self._given is None:
            ways = await make_ways(
                self._service,
                identity,
                name,
                contacts,
                groups,
                self._clock,
                level=config.level,
                card_file=config.card_file,
                ble=config.ble,
                adapter=config.adapter,
                mail_file=config.mail_file,
                islands=config.islands,
            )
        own_groups = OwnGroups(identity, name, contacts, groups, router, driver, book)
        keeper = ContactKeeper(contacts, book, driver, self._clock)
        self._parts = _Parts(
            identity,
            name,
            book,
            contacts,
            keeper,
            groups,
            router,
            manager,
            driver,
            ways,
            own_groups,
        )
        for transport in self._given if self._given is not None else ways.transports:
            manager.register_transport(transport.type, transport)
        self._tasks = [
            background(driver.run(), "messages"),
            background(self._settle(driver, ways), "messages-settled"),
            background(self._sweep(book), "messages-sweep"),
        ]
        await manager.start()

    async def stop(self) -> None:
        """End; what was kept goes on with the next start. Safe to call again."""
        parts, self._parts = self._parts, None
        if parts is None:
            return
        await parts.manager.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await parts.ways.close()
        await parts.keeper.stop()

    async def send_message(
        self, message: DecentralizedMessage, audience: Iterable[str] = ()
    ) -> str:
        """Send a message; return its id once it is kept, whoever can be reached now.

        Args:
            message: what, and to whom.
            audience: of a message to all who are near: who is to get it over the mixnet, too.

        Raises:
            InvalidMessage: it cannot be sent as it is; the text says why.
            OutboxFull: too much waits already.
            ServiceUnavailable: the system does not run.
        """
        parts = self._running
        others = tuple(audience)
        return await parts.driver.ask(lambda now: parts.router.submit(message, now, others))

    async def cancel(self, *ids: str) -> set[str]:
        """Give messages of ours up with all to whom they were not delivered; return which.

        A copy that is on its way may still arrive.

        Raises:
            ServiceUnavailable: the system does not run.
        """
        named = frozenset(ids)
        return await self._cancel(lambda: named)

    async def cancel_to(self, person: str | None, room: str = "") -> set[str]:
        """Give up all that was written to a person, or to a room; see `cancel`.

        Raises:
            ServiceUnavailable: the system does not run.
        """
        router = self._running.router
        return await self._cancel(lambda: router.waiting_for(person, room))

    async def _cancel(self, which: Callable[[], Collection[str]]) -> set[str]:
        parts = self._running
        given_up: set[str] = set()

        def ask(now: float) -> tuple[str, list[Action]]:
            actions = parts.router.cancel(which(), now)
            given_up.update(
                one.id
                for one in actions
                if isinstance(one, Progress) and one.state is DeliveryState.FAILED
            )
            return "", actions

        await parts.driver.ask(ask)
        return given_up

    async def mark_read(self, sender: str, ids: Iterable[str]) -> None:
        """Tell somebody that their messages were read.

        Raises:
            ServiceUnavailable: the system does not run.
        """
        parts = self._running
        read: list[DecentralizedMessage] = []
        for id_ in dict.fromkeys(ids):
            found = await parts.book.message(sender, id_)
            if found is not None:  # without what is in it: many files are more than fits
                read.append(msgspec.structs.replace(found, body=b""))
        await parts.driver.ask(lambda now: ("", parts.router.read(read, now)))

    async def log(
        self,
        after: int = 0,
        limit: int = PAGE,
        *,
        room: str | None = None,
        person: str | None = None,
        last: bool = False,
    ) -> list[LogEntry]:
        """Messages behind a position of the log, ours and others'; see `StoreBook.log`.

        States of ours are those of this moment.
        """
        parts = self._running
        found = await parts.book.log(after, limit, room, person, last=last)
        for entry in found:
            for receiver in entry.states:
                state = parts.router.state(entry.message.id, receiver)
                if state is not None:
                    entry.states[receiver] = state
                if why := parts.router.why(entry.message.id, receiver):
                    entry.reasons[receiver] = why
        return found

    async def content(self, sender: str, message_id: str) -> DecentralizedMessage | None:
        """One message with its body; None if there is none, or no longer."""
        return await self._running.book.message(sender, message_id)

    async def arrivals(self, after: int | None = None) -> AsyncGenerator[LogEntry, None]:
        """Messages of others, each once and in the order of the log, as they come.

        Args:
            after: the position of the last one that was seen, to go on behind it; None for what
                comes from now on.
        """
        parts = self._running
        if after is None:
            newest = await parts.book.log(0, 1, last=True)
            after = newest[0].position if newest else 0
        async with contextlib.aclosing(parts.driver.grown()) as grown:
            async for _ in grown:
                while found := await parts.book.log(after, PAGE):
                    for entry in found:
                        after = entry.position
                        if not entry.outgoing:
                            yield entry

    def progress(self) -> AsyncGenerator[Progress, None]:
        """What becomes of messages of ours, from now on."""
        return self._running.driver.progress()

    def reaches(self) -> dict[str, dict[TransportType, Reach]]:
        """Who can be reached now, and how."""
        return self._running.router.reached()

    def capabilities(self) -> dict[TransportType, TransportCapabilities]:
        """What each transport can do now."""
        manager = self._running.manager
        return {kind: manager.capabilities(kind) for kind in manager.health()}

    async def save_contacts(self) -> None:
        """See on disk what has changed of contacts, which otherwise takes a moment.

        Raises:
            StoreError: it cannot be kept now; it is tried again with the next change.
        """
        await self._running.keeper.save()

    @property
    def waiting(self) -> int:
        """Deliveries of ours that are not over."""
        return self._running.router.waiting

    @property
    def deliveries(self) -> Counter[DeliveryState]:
        """How many deliveries of ours that are not over are in each state."""
        return self._running.router.deliveries()

    @property
    def refused(self) -> Counter[str]:
        """What was not taken since the start, by reason."""
        return Counter({why.value: n for why, n in self._running.router.refused.items()})

    def why(self, message_id: str, receiver: str) -> str:
        """Why a delivery of ours waits, in one line; "" where it does not, or only for its turn."""
        return self._running.router.why(message_id, receiver)

    @property
    def identity(self) -> Identity:
        """The person's keys."""
        return self._running.identity

    @property
    def name(self) -> str:
        """Under which others see the person."""
        return self._running.name

    @property
    def contacts(self) -> PeerBook:
        """Whom one knows; what is changed there is kept, and counts at once."""
        return self._running.contacts

    @property
    def manager(self) -> TransportManager:
        """The transports."""
        return self._running.manager

    @property
    def ways(self) -> Ways:
        """The transports that were made here, by what they are."""
        return self._running.ways

    @property
    def groups(self) -> Groups:
        """The groups that one is in."""
        return self._running.groups

    async def make_group(self, name: str, members: Iterable[str]) -> str:
        """Make a group; see `OwnGroups.make`.

        Raises:
            ServiceUnavailable: the system does not run.
        """
        return await self._running.own_groups.make(name, members)

    async def change_group(self, group: str, name: str, members: Iterable[str]) -> None:
        """Change a group that one made; see `OwnGroups.change`.

        Raises:
            ServiceUnavailable: the system does not run.
        """
        await self._running.own_groups.change(group, name, members)

    async def leave_group(self, group: str) -> None:
        """Be in a group no more; see `OwnGroups.leave`.

        Raises:
            ServiceUnavailable: the system does not run.
        """
        await self._running.own_groups.leave(group)

    async def wipe(self, also: Callable[[], Awaitable[None]] | None = None) -> bool:
        """Destroy keys, messages, contacts and groups, and stop; whether there was anything.

        It needs no system that runs. One that was interrupted, or failed, is gone on with by the
        next start, or when this is called again. What cannot be destroyed keeps nothing else from
        it; the first such error is raised then.

        Args:
            also: destroys what others keep.

        Raises:
            HomeUnusable: the keys cannot be overwritten.
            StoreError: the messages cannot be deleted.
        """
        wiping, parts = self._wiping(), self._parts
        begun = await wiping.begin()
        if parts is not None:
            parts.contacts.take_changes()
            await self.stop()
            parts.identity.erase()
        return await wiping.run(also) or begun

    def _wiping(self) -> Wiping:
        config, book = self._config, StoreBook(self._store.messages, "")
        return Wiping(config.identity_file, config.card_file, config.mail_file, book)

    async def _settle(self, driver: RouterDriver, ways: Ways) -> None:
        """Let nobody carry any longer what has arrived some other way."""
        async for one in driver.progress():
            if one.state in (DeliveryState.DELIVERED, DeliveryState.READ):
                ways.settled(one.id, one.receiver)

    async def _sweep(self, book: StoreBook) -> None:
        while True:
            with contextlib.suppress(FogError):  # the next one finds it, too
                await book.sweep(self._clock.now().timestamp())
            await self._clock.sleep(SWEEP_S)

    @property
    def _running(self) -> _Parts:
        if self._parts is None:
            raise ServiceUnavailable("the messaging system does not run: start it first")
        return self._parts

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


@dataclass(slots=True)
class _Parts:
    """What there is while the system runs."""

    identity: Identity
    name: str
    book: StoreBook
    contacts: PeerBook
    keeper: ContactKeeper
    groups: Groups
    router: Router
    manager: TransportManager
    driver: RouterDriver
    ways: Ways
    own_groups: OwnGroups
