"""The transport HTX: messages to people over the mixnet, by one client of one privacy level.

The client is for messages alone, with a folder and mailboxes of its own, so that no edge sees that
who runs tasks is who talks to whom. Who is reached stands in the peer book: whose card names an
address of the same level. Nothing is polled: `receive` waits for what comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import betanet
from fog_compute.clock import Clock, SystemClock
from fog_compute.errors import ServiceUnavailable
from fog_compute.levels import PrivacyLevel
from fog_compute.observability import get_logger
from fog_compute.p2p.core.cards import ContactCard
from fog_compute.p2p.core.contacts import KeyChanged, PeerBook
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
    Reach,
    Reachability,
    TransportCapabilities,
    TransportEvent,
    TransportType,
    TransportUnavailable,
)
from fog_compute.p2p.htx.envelope import (
    MAX_ENVELOPE_BYTES,
    EnvelopeInvalid,
    Opened,
    mixnet_id,
    open_envelope,
    seal_envelope,
)
from fog_compute.p2p.htx.mixnet import Incoming, MixnetClient, MixnetService
from fog_compute.p2p.htx.own_card import OwnCard
from fog_compute.p2p.htx.pulse import Pulse
from fog_compute.p2p.htx.strangers import StrangerLimits
from fog_compute.threads import in_thread
from fog_compute.units import MIB
from fog_compute.vpn.clients import MESSAGES

__all__ = ["CARRIED", "HtxClient"]

_log = get_logger("fog_compute.p2p")

WAITING: Final = 64
"""Messages that were read and not taken; the others wait at the edges."""

SENDING_AT_ONCE: Final = 8
"""Recipients of one broadcast to whom it is sent at the same time."""

LOOK_S: Final = 2.0
"""Seconds between two looks at whether the network can be reached."""

ASIDE_BYTES: Final = 1 * MIB
"""From here on signing and checking is done in a thread: a hash of it takes milliseconds."""

OFFLINE: Final = "the mixnet cannot be reached"

CARRIED: Final = "application/x-fog-carried"
"""Media type of what `HtxClient.carry` sends: no person's message, and kept by nobody."""

CARRIED_MS: Final = 60_000
"""After so long what was carried is of no use."""


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
        self._strangers: Final = StrangerLimits()
        self._client: MixnetClient | None = None
        self._card: ContactCard | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._arrived: asyncio.Queue[Arrival] = asyncio.Queue(WAITING)
        self._reads: MixnetClient | None = None
        self._held: Incoming | Arrival | None = None
        self._ended = False
        self._news: Final[deque[TransportEvent]] = deque()
        self._woken: Final = asyncio.Event()
        self._reached: Final[set[str]] = set()
        self._trouble: str | None = "it has not been started"
        self.dropped: Final[Counter[str]] = Counter()
        """Messages that were not shown, by reason."""
        self.on_carried: Callable[[str, bytes], None] | None = None
        """Called with the sender and the body of what somebody let be carried."""
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
        if client is not self._reads:  # an open client gives each message once
            self._reads, self._held = client, None
            self._arrived = asyncio.Queue(WAITING)
        self._ended = False
        self._news.clear()
        self._reached.clear()
        self._trouble = self._look(client)
        for peer in self._book:
            self._peer_changed(peer.fingerprint)
        self._tasks = [
            asyncio.create_task(self._take(client, self._arrived), name="htx-take"),
            asyncio.create_task(self._watch(client), name="htx-watch"),
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
        address, why = self._address_of(destination)
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

        try:
            await client.send(address, data, hops=self._level.hops, id=sending)
        except betanet.Closed as error:
            raise TransportUnavailable(f"the mixnet client is closed: {error}") from error
        except betanet.Offline as error:
            self._say_trouble(str(error) or OFFLINE)
            return failed(f"{OFFLINE}: {error}")
        except betanet.Timeout as error:
            return failed(f"not stored in time: {error}")
        except betanet.InvalidAddress as error:
            return failed(f"the address on their card is none: {error}", permanent=True)
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
            with contextlib.suppress(asyncio.QueueEmpty):
                return self._arrived.get_nowait()
            if self._ended:
                await self.shutdown()
                self._trouble = "the mixnet client is closed"
                raise TransportUnavailable(self._trouble)
            await self._woken.wait()

    async def confirm(self, arrival: Arrival) -> None:
        """The message is kept here: the edges may forget it."""
        if self._client is not None and arrival.token:
            await self._commit(self._client, arrival.token)

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

    async def _take(self, client: MixnetClient, arrived: asyncio.Queue[Arrival]) -> None:
        """Read what comes, until the client is closed; stopped, go on later with what was read."""
        try:
            while True:
                if self._held is None:
                    self._held = await client.receive()
                if not isinstance(self._held, Arrival):
                    incoming, judged = self._held, await self._judge(self._held)
                    if judged is None:
                        self._held = None
                        await self._commit(client, incoming.id)
                        continue
                    self._held = judged
                await arrived.put(self._held)
                self._held = None
                self._woken.set()
        except Exception as error:  # noqa: BLE001 - nobody would hear that nothing comes any more
            _log.warning("htx.ended", reason=type(error).__name__)
            self._held = None
            self._ended = True
            self._woken.set()

    async def _judge(self, incoming: Incoming) -> Arrival | None:
        """What came, or None where it is nothing for anybody; why is counted."""
        try:
            opened = await self._open(incoming)
            sender = opened.message.sender
            if sender == self._identity.fingerprint:
                raise EnvelopeInvalid("own", "one's own message came back")
            known = self._book.get(sender)
            if known is not None and known.blocked:
                raise EnvelopeInvalid("blocked", "its sender is blocked")
            if known is None or not known.is_kept:
                self._strangers.admit(sender, incoming.size, self._clock.monotonic())
            if opened.card is not None:
                self._book.learn(opened.card, self._now_ms())
            if opened.message.media_type == CARRIED:
                self._carried(opened.message)
                return None
        except EnvelopeInvalid as error:
            self.dropped[error.reason] += 1
            return None
        except KeyChanged:
            self.dropped["key"] += 1
            return None
        return Arrival(self.type, opened.message, sender_verified=True, token=incoming.id)

    def _carried(self, message: DecentralizedMessage) -> None:
        if self.on_carried is None:
            raise EnvelopeInvalid("carried", "nobody wants what is carried")
        if self._now_ms() > message.created_ms + CARRIED_MS:
            raise EnvelopeInvalid("late", "what was carried comes too late")
        self.on_carried(message.sender, message.body)

    async def _open(self, incoming: Incoming) -> Opened:
        if incoming.size > MAX_ENVELOPE_BYTES:
            raise EnvelopeInvalid("size", "the envelope is too long")
        own = self._identity.fingerprint
        if incoming.size < ASIDE_BYTES:
            return open_envelope(incoming.body, own)
        try:
            return await in_thread(lambda: open_envelope(incoming.body, own))
        except OSError as error:
            raise EnvelopeInvalid("unread", f"it cannot be read: {error.strerror}") from error

    async def _commit(self, client: MixnetClient, token: str) -> None:
        # One that fails is repeated by what comes again.
        with contextlib.suppress(betanet.BetanetError, ValueError):
            await client.commit(token)

    async def _watch(self, client: MixnetClient) -> None:
        """Tell when the network goes and comes back."""
        while True:
            await self._clock.sleep(LOOK_S)
            self._say_trouble(self._look(client))

    def _look(self, client: MixnetClient) -> str | None:
        try:
            view = client.status()
        except betanet.Closed:
            return "the mixnet client is closed"
        if not view.edges_attached:
            return view.trouble or f"{OFFLINE}: no edge answers"
        lacking = next((one for one in view.shortages if one.hops == self._level.hops), None)
        return None if lacking is None else lacking.text

    def _say_trouble(self, trouble: str | None) -> None:
        before, self._trouble = self._trouble, trouble
        if (before is None) is not (trouble is None):
            self._tell(CapabilitiesChanged(self.type))

    def _peer_changed(self, fingerprint: str) -> None:
        """Tell who can be reached now, and who no more."""
        if self._client is None:
            return
        reached = self._address_of(fingerprint)[0] is not None
        if reached and fingerprint not in self._reached:
            self._reached.add(fingerprint)
            self._tell(Reachability(self.type, fingerprint, Reach.ADDRESS))
        elif not reached and fingerprint in self._reached:
            self._reached.discard(fingerprint)
            self._tell(Reachability(self.type, fingerprint, Reach.NONE))

    def _tell(self, event: TransportEvent) -> None:
        self._news.append(event)
        self._woken.set()

    def _address_of(self, fingerprint: str) -> tuple[str | None, str]:
        """Somebody's address at this level, or why there is none."""
        peer = self._book.get(fingerprint)
        addresses: Mapping[PrivacyLevel, str] = {} if peer is None else peer.addresses
        if not addresses:
            return None, "no address of theirs is known: ask for their card, `fog peer add CARD`"
        found = addresses.get(self._level)
        if found is None:
            theirs = ", ".join(level.name for level in addresses)
            return None, f"they take messages at {theirs}, and not at {self._level.name}"
        return found, ""

    def _running(self) -> MixnetClient:
        if self._client is None:
            raise TransportUnavailable(f"HTX does not run: {self._trouble}")
        return self._client

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def _refused(message: DecentralizedMessage, receiver: str, why: str) -> Outcome:
    return Outcome(message.id, receiver, OutcomeState.FAILED, why, permanent=True)
