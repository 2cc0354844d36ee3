"""The transport BitChat: messages to people near by, from phone to phone, over Bluetooth.

Thin: the mesh decides (:mod:`fog_compute.p2p.bitchat.mesh.engine`), the links carry
(:mod:`fog_compute.p2p.bitchat.ble_links`), and here is what joins the two, and says it in the
words of the router. Other links, such as those of browsers, may join the same mesh.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Final

from fog_compute.clock import Clock, SystemClock
from fog_compute.observability import get_logger
from fog_compute.p2p.bitchat.ble_all_links import AllLinks
from fog_compute.p2p.bitchat.ble_groups import GroupTalk
from fog_compute.p2p.bitchat.ble_links import AdapterChanged, LinkNews
from fog_compute.p2p.bitchat.ble_outgoing import Outgoing
from fog_compute.p2p.bitchat.ble_peers import NearPeers
from fog_compute.p2p.bitchat.ble_scanner import ScanPolicy
from fog_compute.p2p.bitchat.ble_sendings import Sendings
from fog_compute.p2p.bitchat.ble_told import Heard, Told, taken
from fog_compute.p2p.bitchat.events import (
    Disconnect,
    FrameReceived,
    FrameSent,
    Link,
    LinkDown,
    LinkSource,
    LinkUp,
    SendFrame,
    Wake,
    WakeAt,
)
from fog_compute.p2p.bitchat.mail.couriers import MailState
from fog_compute.p2p.bitchat.mesh.engine import Mesh, MeshEvent, MeshPolicy
from fog_compute.p2p.bitchat.mesh.news import (
    ClocksApart,
    FileHeard,
    GroupHeard,
    HeardPrivately,
    KeysProved,
    Leave,
    MailHeard,
    MailKept,
    MailSettled,
    MailTaken,
    News,
    PartSent,
    PeerAway,
    PeerNear,
    Rename,
    Sent,
    SessionReady,
    TextHeard,
    Trace,
    Traced,
)
from fog_compute.p2p.bitchat.radio.interface import Radio
from fog_compute.p2p.bitchat.radio.system import system_radio
from fog_compute.p2p.bitchat.wire.announce import Capability
from fog_compute.p2p.bitchat.wire.files import MAX_FILE
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import DecentralizedMessage, MessageKind, Receipt
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

__all__ = ["BitChatTransport"]

BACK_S: Final = 10.0
"""Seconds by which the time of day may go back; what is due later by more would seem to hang."""

_log = get_logger("fog_compute.p2p")


class BitChatTransport:
    """A `fog_compute.p2p.core.transport.TransportInterface` over the Bluetooth mesh.

    Attributes:
        dropped: what was heard and not shown, by reason.
        on_traced: called with what a `trace` found.
        on_mail: called with what is carried, whenever it changes: to be kept for the next start.
    """

    def __init__(
        self,
        identity: Identity | None = None,
        *,
        name: str = "anon",
        book: PeerBook | None = None,
        groups: Groups | None = None,
        radio: Radio | None = None,
        others: LinkSource | None = None,
        mail: MailState | None = None,
        policy: MeshPolicy | None = None,
        scan: ScanPolicy | None = None,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        """Touch no adapter yet.

        Args:
            identity: whose messages these are; None for keys that last as long as this object.
            name: the nickname in announces.
            book: whom one knows; who is met is noted there.
            groups: those that one is in; what changes there counts at once.
            radio: a driver; None for the system's.
            others: links that are no Bluetooth.
            mail: what was carried when the last run ended.
            policy: of the mesh.
            scan: of the scanner.
            clock: what time it is; the mesh compares it with others'.
            rng: of waits, never of keys.
        """
        self._identity: Final = Identity.new() if identity is None else identity
        self._book: Final = PeerBook(own=self._identity.fingerprint) if book is None else book
        self._clock: Final = SystemClock() if clock is None else clock
        self._rng: Final = SystemRandom() if rng is None else rng
        self._links: Final = AllLinks(
            system_radio() if radio is None else radio,
            others,
            self.tell,
            clock=self._clock,
            rng=self._rng,
            scan=scan,
        )
        self._name = name
        self._mail = mail
        self._policy: Final = policy
        self._mesh: Mesh | None = None
        self.dropped: Final[Counter[str]] = Counter()
        self._near: Final = NearPeers(self._book, self._say, self._now_ms, self.dropped)
        own = self._identity.fingerprint
        known = Groups(own) if groups is None else groups
        self._groups: Final = GroupTalk(self._identity, name, known, self._near)
        self._told: Final = Told(own, self._near, self._groups, self.dropped)
        self._sendings: Final = Sendings(self._step, self._told_more)
        self._outgoing: Final = Outgoing(self._near, self._groups, self._sendings, self._now_ms)
        self._timer: asyncio.TimerHandle | None = None
        self._stepped = 0.0
        self._clocks: str | None = None
        self.on_traced: Callable[[Traced], None] | None = None
        self.on_mail: Callable[[MailState], None] | None = None

    @property
    def type(self) -> TransportType:
        """Which transport it is."""
        return TransportType.BITCHAT_BLE

    @property
    def mesh(self) -> Mesh | None:
        """The engine, to be read: who is near, what was counted. None before the first start."""
        return self._mesh

    @property
    def links(self) -> int:
        """How many links of all kinds are up."""
        return len(self._near.links)

    def join(self, others: LinkSource) -> None:
        """Let links that are no Bluetooth join the mesh, from the next start on."""
        self._links.others = others

    async def initialize(self) -> None:
        """Take the adapter, and begin to look for others; without one, other links go on alone.

        Raises:
            TransportUnavailable: there is no adapter, and no other kind of link.
        """
        await self.shutdown()
        self._mesh = self._make_mesh()
        self._near.begin(self._mesh.peers)
        self._stepped = self._now()
        try:
            await self._links.start()
        except TransportUnavailable:
            self._mesh = None
            raise
        self._step(Wake())

    async def send(
        self,
        message: DecentralizedMessage,
        destination: str,
        *,
        attempt: int = 0,
    ) -> Outcome:
        """Send to one person, over a session, or by couriers where that person is not near.

        *Accepted* says that it is on its way to a neighbour, *queued* that it waits for a session
        or a courier; later news come from `receive`. Who has it says so by a receipt.

        Raises:
            TransportUnavailable: the transport does not run.
        """
        self._running()
        return self._outgoing.to_one(message, destination, attempt)

    async def broadcast(self, message: DecentralizedMessage) -> int:
        """Say a text to all who are near, or give them a file; over how many links it went.

        Raises:
            TransportUnavailable: the transport does not run, or this cannot be said to all.
        """
        self._running()
        links = len(self._near.links)
        outcome = self._outgoing.to_all(message)
        if outcome.state is OutcomeState.FAILED:
            raise TransportUnavailable(outcome.reason or "nobody is near")
        return links

    async def receive(self) -> TransportEvent:
        """Wait for what comes next. Cancelled, nothing is lost.

        Raises:
            TransportUnavailable: the transport does not run, or its adapter is gone for good.
        """
        while (event := self._told.take()) is None:
            self._running()
            if self._links.ended:
                await self.shutdown()
                raise TransportUnavailable(self._links.trouble or "the adapter is gone")
            self._told.woken.clear()
            await self._told.woken.wait()
        return event

    async def confirm(self, arrival: Arrival) -> None:
        """Open the envelope no more in which a message came, if couriers brought it."""
        command = taken(arrival.token)
        if command is not None:
            self._step(command)

    async def shutdown(self) -> None:
        """Say that this node leaves, end all links, and let go of the adapter."""
        mesh, self._mesh = self._mesh, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            if mesh is not None:
                for action in mesh.handle(Leave(), self._now()):
                    if isinstance(action, SendFrame):
                        self._links.send(action)
                await self._links.drain()
                self._links.trouble = self._links.trouble or "it has been stopped"
        finally:
            await self._links.stop()
            self._near.end()
            self._sendings.clear()
            self._groups.clear()
            self._told.woken.set()  # who waits sees that it does not run

    def get_capabilities(self) -> TransportCapabilities:
        """What it can do now."""
        return TransportCapabilities(
            supports_offline=True,
            max_message_size=MAX_FILE,
            supports_broadcast=True,
            requires_pairing=False,
            latency_class="medium",
            mtu=512,
            duplex=True,
            lossy=True,
            metered=False,
            link_encrypted=False,
            metadata_private=False,
            unavailable_because=self._reason(),
            limited_because=self._links.limited_because,
        )

    def rename(self, name: str) -> None:
        """Be known by another nickname from now on."""
        self._name = self._groups.name = name
        if self._mesh is not None:
            self._step(Rename(name))

    def trace(self, fingerprint: str, token: str) -> None:
        """Ask how far away somebody is; `on_traced` is called, or not.

        Raises:
            TransportUnavailable: the transport does not run.
        """
        self._running()
        self._step(Trace(token, bytes.fromhex(fingerprint)[:8]))

    def settled(self, message_id: str, receiver: str) -> None:
        """A message has arrived some other way: nobody needs to carry it there any longer."""
        noise_key = self._near.noise_key(receiver)
        if self._mesh is not None and noise_key is not None:
            self._step(MailSettled(message_id, noise_key))

    def tell(self, news: LinkNews) -> None:
        """Take in what happened on a link, of whatever kind."""
        if self._mesh is None:
            return
        match news:
            case AdapterChanged():
                self._links.changed(news)
                self._say(CapabilitiesChanged(self.type))
                return
            case LinkUp(link):
                self._changes(link)
                self._near.links.add(link)
            case LinkDown(link):
                self._near.links.discard(link)
                self._changes(link)
            case FrameReceived() | FrameSent():
                pass
        self._step(news)
        if isinstance(news, LinkUp | LinkDown):
            self._near.look()

    def _changes(self, link: Link) -> None:
        """A first link comes, or the last one went: without an adapter, that is what matters."""
        if self._links.trouble is not None and not self._near.links - {link}:
            self._say(CapabilitiesChanged(self.type))

    def _make_mesh(self) -> Mesh:
        self._clocks = None
        return Mesh(
            self._identity,
            self._name,
            self._rng,
            policy=self._policy,
            capabilities=Capability.GROUPS,
            pinned=self._near.pinned,
            tier=self._near.tier,
            mail=self._mail,
        )

    def _step(self, event: MeshEvent) -> None:
        """Let the mesh decide, and do what it says."""
        if self._mesh is None:
            return
        now = self._now()
        if now < self._stepped - BACK_S:
            # All that waits in the mesh does so for a time of day.
            self._give_up(f"the clock went back by {self._stepped - now:.0f} s")
            return
        self._stepped = now
        for action in self._mesh.handle(event, now):
            match action:
                case SendFrame():
                    self._links.send(action)
                case WakeAt(at):
                    self._arm(at)
                case Disconnect(link):
                    self._links.disconnect(link)
                case _:
                    self._hear(action)

    def _hear(self, news: News) -> None:
        match news:
            case PeerNear() | PeerAway() | SessionReady() | KeysProved():
                self._near.hear(news)
            case TextHeard() | FileHeard() | GroupHeard() | HeardPrivately() | MailHeard():
                self._said(news)
            case Sent():
                self._sendings.sent(news)
            case PartSent():
                self._sendings.left(news)
            case _:
                self._note(news)

    def _note(self, news: News) -> None:
        match news:
            case MailKept(state):
                self._mail = state
                if self.on_mail is not None:
                    self.on_mail(state)
            case Traced():
                if self.on_traced is not None:
                    self.on_traced(news)
            case ClocksApart(seconds, neighbours, everybody):
                _log.warning(
                    "mesh.clocks",
                    ahead_s=round(seconds),
                    neighbours=neighbours,
                    everybody=everybody,
                )
                was, self._clocks = self._clocks, news.reason
                if was != self._clocks:
                    self._say(CapabilitiesChanged(self.type))

    def _told_more(self, news: Outcome | PartLeft) -> None:
        self._say(self._groups.told(news) if isinstance(news, Outcome) else news)

    def _said(self, heard: Heard) -> None:
        """Somebody said something."""
        if isinstance(heard, MailHeard) and self._told.full:
            self.dropped["full"] += 1
            self._step(MailTaken(heard.envelope, heard.noise_key, kept=False))
            return
        message = self._told.hear(heard, self._now_ms())
        if not isinstance(heard, HeardPrivately | MailHeard) or message is None:
            return
        if message.kind is MessageKind.RECEIPT:
            for one in Receipt.parse(message.body).ids:
                self._step(MailSettled(one, heard.noise_key))

    def _reason(self) -> str | None:
        """Why nobody can be reached; over a link of another kind somebody can."""
        return self._clocks if self._near.links else self._links.trouble

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        pause = max(0.0, at - self._now())
        self._timer = asyncio.get_running_loop().call_later(pause, self._wake)

    def _wake(self) -> None:
        try:
            self._step(Wake())
        except Exception as error:  # noqa: BLE001  # nobody waits for what a timer raises
            self._give_up(f"the mesh failed ({type(error).__name__})")

    def _give_up(self, trouble: str) -> None:
        """Say so to who waits for what comes, who begins anew with another mesh."""
        self._links.trouble = trouble
        self._links.ended = True
        self._told.woken.set()

    def _say(self, event: TransportEvent) -> None:
        self._told.say(event)

    def _running(self) -> Mesh:
        if self._mesh is None:
            raise TransportUnavailable(f"BitChat does not run: {self._links.trouble}")
        return self._mesh

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _now_ms(self) -> int:
        return int(self._now() * 1000)
