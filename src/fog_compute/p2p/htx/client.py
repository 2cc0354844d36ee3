"""The transport HTX: messages to people over the mixnet, by one client of one privacy level.

The client is for messages alone, with a folder and mailboxes of its own, so that no edge sees that
who runs tasks is who talks to whom. Who is reached stands in the peer book: whose card names an
address of the same level. Nothing is polled: `receive` waits for what comes.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

import betanet
from fog_compute.clock import Clock, SystemClock
from fog_compute.errors import ServiceUnavailable
from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.core.background import background
from fog_compute.p2p.core.cards import ContactCard
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import (
    MAX_BODY_BYTES,
    DecentralizedMessage,
    InvalidMessage,
    MessageKind,
)
from fog_compute.p2p.core.transport import (
    Arrival,
    CapabilitiesChanged,
    Outcome,
    OutcomeState,
    PartLeft,
    TransportCapabilities,
    TransportEvent,
    TransportType,
    TransportUnavailable,
)
from fog_compute.p2p.htx.envelope import mixnet_id, seal_envelope
from fog_compute.p2p.htx.mixnet import MixnetClient, MixnetService
from fog_compute.p2p.htx.own_card import OwnCard
from fog_compute.p2p.htx.pulse import Pulse
from fog_compute.p2p.htx.reaching import OFFLINE, Addresses, trouble_of
from fog_compute.p2p.htx.reception import ASIDE_BYTES, CARRIED, CARRIED_MS, Reception, commit
from fog_compute.threads import in_thread
from fog_compute.units import KIB
from fog_compute.vpn.clients import MESSAGES

__all__ = ["HtxClient"]

SENDING_AT_ONCE: Final = 8
"""Recipients of one broadcast to whom it is sent at the same time."""

LOOK_S: Final = 2.0
"""Seconds between two looks at whether the network can be reached."""

ELSEWHERE: Final = (
    "none of the edges on their card is in this network now: are both of you in the same one, and"
    " is their card the newest?"
)

LONG_BYTES: Final = 256 * KIB
"""From here on it is told how much of a message has left: it takes a second, or more."""


class HtxClient:
    """A `fog_compute.p2p.core.transport.TransportInterface` over the mixnet.

    It does not own the mixnet's client: the service closes it.
    """

    def __init__(
        self,
        betanet_service: MixnetService,
        identity: Identity,
        book: PeerBook,
        card: OwnCard,
        *,
        name: str = "",
        level: PrivacyLevel = PrivacyLevel.PRIVATE,
        clock: Clock | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            betanet_service: gives the client.
            identity: whose messages these are.
            book: whom one knows, and with which addresses; senders' cards are noted there.
            card: one's own card, which goes along with what is sent.
            name: what stands on it.
            level: path length of all that is sent and taken.
            clock: of the bounds on strangers, and of when to look at the network.
        """
        self._service: Final = betanet_service
        self._identity: Final = identity
        self._book: Final = book
        self._own_card: Final = card
        self._name: Final = name
        self._level: Final = level
        self._clock: Final = SystemClock() if clock is None else clock
        self._pulse: Final = Pulse(self._clock)
        self._client: MixnetClient | None = None
        self._card: ContactCard | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = False
        self._why = ""
        self._news: Final[deque[TransportEvent]] = deque()
        self._woken: Final = asyncio.Event()
        self._trouble: str | None = "it has not been started"
        self._reception: Final = Reception(identity, book, self._clock, self._woken.set)
        self._addresses: Final = Addresses(book, level, self._tell)
        book.watch(self._peer_changed)

    @property
    def type(self) -> TransportType:
        """Which transport it is."""
        return TransportType.BETANET_HTX

    @property
    def level(self) -> PrivacyLevel:
        """The level of all that is sent and taken."""
        return self._level

    @property
    def card(self) -> ContactCard | None:
        """One's own card; None before the first start."""
        return self._card

    @property
    def dropped(self) -> Counter[str]:
        """Messages that were not shown, by reason."""
        return self._reception.dropped

    @property
    def on_carried(self) -> Callable[[str, bytes], None] | None:
        """Called with the sender and the body of what somebody let be carried."""
        return self._reception.on_carried

    @on_carried.setter
    def on_carried(self, called: Callable[[str, bytes], None] | None) -> None:
        self._reception.on_carried = called

    async def initialize(self) -> None:
        """Open the client, and begin to take what comes.

        Raises:
            TransportUnavailable: the network cannot be joined now, or the card cannot be kept.
        """
        await self.shutdown()
        try:
            client = await self._service.client(self._level, MESSAGES)
            addresses = {self._level: client.address}
            now_ms = self._now_ms()
            self._card = await in_thread(self._own_card.issue, self._name, addresses, now_ms)
        except (ServiceUnavailable, betanet.BetanetError) as error:
            self._trouble = str(error)
            raise TransportUnavailable(str(error)) from error
        except OSError as error:
            self._trouble = f"one's own card cannot be kept: {error.strerror}"
            raise TransportUnavailable(self._trouble) from error
        self._client = client
        self._reception.begin(client)
        self._ended = False
        self._news.clear()
        self._addresses.begin()
        self._trouble = trouble_of(client, self._level)
        self._tasks = [
            background(self._reception.read(client), "htx-take", self._over),
            background(self._watch(client), "htx-watch", self._over),
        ]

    async def send(
        self, message: DecentralizedMessage, destination: str, *, attempt: int = 0
    ) -> Outcome:
        """Send to one person; *stored* once the recipient's edge has it on disk.

        Cancelled, it is given up; asked again with the same attempt, it arrives once.

        Raises:
            TransportUnavailable: the transport does not run.
        """
        client = self._running()
        address, why = self._addresses.of(destination)
        if address is None:
            return Outcome(message.id, destination, OutcomeState.FAILED, why)
        if message.requires_privacy and self._level is PrivacyLevel.PUBLIC:
            return _refused(
                message, destination, "at PUBLIC the recipient's edge sees who writes to it"
            )
        # Who answers a message of ours has our address from it.
        card = "" if message.kind is MessageKind.RECEIPT or self._card is None else self._card.text
        try:
            if len(message.body) < ASIDE_BYTES:
                data = seal_envelope(message, destination, self._identity, card)
            else:
                data = await in_thread(seal_envelope, message, destination, self._identity, card)
        except InvalidMessage as error:
            return _refused(message, destination, str(error))
        sending = mixnet_id(message.id, destination, attempt, card)
        return await self._hand_over(client, address, data, sending, message.id, destination)

    async def _hand_over(
        self,
        client: MixnetClient,
        address: str,
        data: bytes,
        sending: str,
        message_id: str,
        receiver: str,
    ) -> Outcome:
        def failed(why: str, *, permanent: bool = False) -> Outcome:
            return Outcome(message_id, receiver, OutcomeState.FAILED, why, permanent)

        def left(so_far: betanet.Progress) -> None:
            self._tell(PartLeft(self.type, message_id, receiver, so_far.done, so_far.total))

        try:
            await client.send(
                address,
                data,
                hops=self._level.hops,
                id=sending,
                on_progress=None if len(data) < LONG_BYTES else left,
            )
        except betanet.Closed as error:
            raise TransportUnavailable(f"the mixnet client is closed: {error}") from error
        except betanet.Offline as error:
            self._say_trouble(str(error) or OFFLINE)
            return failed(f"{OFFLINE}: {error}")
        except betanet.Timeout as error:
            return failed(f"not stored in time: {error}")
        except betanet.InvalidAddress as error:
            return failed(f"the address on their card is none: {error}", permanent=True)
        except betanet.NotEnoughNodes as error:
            return failed(str(error) if error.available else ELSEWHERE)
        except (betanet.BetanetError, OSError) as error:
            return failed(str(error))
        except ValueError as error:
            return failed(str(error), permanent=True)
        return Outcome(message_id, receiver, OutcomeState.STORED)

    async def broadcast(
        self, message: DecentralizedMessage, to: Sequence[str] | None = None
    ) -> int:
        """Send a message to a list of people; return at how many of their edges it is stored.

        Args:
            message: with an id, which all of them see.
            to: their fingerprints; the mixnet knows no *all who are near*.

        Raises:
            TransportUnavailable: the transport does not run, or there is no list.
        """
        self._running()
        if to is None:
            raise TransportUnavailable("the mixnet has no broadcast: say to whom it goes")
        places = asyncio.Semaphore(SENDING_AT_ONCE)

        async def one(destination: str) -> bool:
            async with places:
                outcome = await self.send(message, destination)
            return outcome.state is OutcomeState.STORED

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(destination)) for destination in dict.fromkeys(to)]
        return sum(task.result() for task in tasks)

    async def carry(self, destination: str, body: bytes) -> bool:
        """Send what is no message of a person's and waits for nobody; whether it is stored.

        Whoever gets it has it from `on_carried`, or not at all.
        """
        now_ms = self._now_ms()
        message = DecentralizedMessage(
            body=body,
            receiver_id=destination,
            kind=MessageKind.CONTROL,
            media_type=CARRIED,
            offline_capable=False,
            id=secrets.token_hex(16),
            created_ms=now_ms,
            expires_ms=now_ms + CARRIED_MS,
        )
        try:
            outcome = await self.send(message, destination)
        except TransportUnavailable:
            return False
        return outcome.state is OutcomeState.STORED

    async def receive(self) -> TransportEvent:
        """Wait for what comes next. Cancelled, nothing is lost.

        Raises:
            TransportUnavailable: the transport does not run, or the client is closed.
        """
        while True:
            self._woken.clear()
            if self._news:
                return self._news.popleft()
            self._running()
            if (arrival := self._reception.next()) is not None:
                return arrival
            if self._ended:
                await self.shutdown()
                self._trouble = self._why
                raise TransportUnavailable(self._trouble)
            await self._woken.wait()

    async def confirm(self, arrival: Arrival) -> None:
        """The message is kept here: the edges may forget it."""
        if self._client is not None and arrival.token:
            await commit(self._client, arrival.token)

    async def check(self) -> str | None:
        """Why nothing goes over the mixnet now, by a packet to oneself; None where it does."""
        if self._client is None or self._trouble is not None:
            return self._trouble
        return await self._pulse.check(self._client, self._level.hops)

    async def shutdown(self) -> None:
        """Take nothing more; what was not confirmed comes again. Safe to call again."""
        tasks, self._tasks, self._client = self._tasks, [], None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            self._trouble = "it has been stopped"
        self._woken.set()  # who waits sees that it does not run

    def get_capabilities(self) -> TransportCapabilities:
        """What it can do now."""
        return TransportCapabilities(
            supports_offline=False,
            max_message_size=MAX_BODY_BYTES,
            supports_broadcast=False,
            requires_pairing=False,
            latency_class="low" if self._level.hops <= PrivacyLevel.PRIVATE.hops else "medium",
            mtu=betanet.Geometry.native().user_payload_len,
            duplex=True,
            lossy=False,
            metered=False,
            link_encrypted=True,
            metadata_private=self._level is not PrivacyLevel.PUBLIC,
            unavailable_because=self._trouble,
        )

    def _over(self, error: BaseException) -> None:
        """Nothing comes any more, or nobody looks at the network: whoever waits hears of it."""
        self._why = (
            "the mixnet client is closed"
            if isinstance(error, betanet.Closed)
            else f"it failed while it ran ({type(error).__name__})"
        )
        self._ended = True
        self._woken.set()

    async def _watch(self, client: MixnetClient) -> None:
        """Tell when the network goes and comes back."""
        while True:
            await self._clock.sleep(LOOK_S)
            self._say_trouble(trouble_of(client, self._level))

    def _say_trouble(self, trouble: str | None) -> None:
        before, self._trouble = self._trouble, trouble
        if (before is None) is not (trouble is None):
            self._tell(CapabilitiesChanged(self.type))

    def _peer_changed(self, fingerprint: str) -> None:
        """Tell who can be reached now, and who no more."""
        if self._client is not None:
            self._addresses.changed(fingerprint)

    def _tell(self, event: TransportEvent) -> None:
        self._news.append(event)
        self._woken.set()

    def _running(self) -> MixnetClient:
        if self._client is None:
            raise TransportUnavailable(f"HTX does not run: {self._trouble}")
        return self._client

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def _refused(message: DecentralizedMessage, receiver: str, why: str) -> Outcome:
    return Outcome(message.id, receiver, OutcomeState.FAILED, why, permanent=True)
