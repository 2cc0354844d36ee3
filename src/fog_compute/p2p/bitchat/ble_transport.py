"""The transport BitChat: messages to people near by, from phone to phone, over Bluetooth.

Thin: the mesh decides (:mod:`fog_compute.p2p.bitchat.mesh.engine`), the links carry
(:mod:`fog_compute.p2p.bitchat.ble_links`), and here is what joins the two, and says it in the
words of the router. Other links, such as those of browsers, may join the same mesh.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Final, Protocol

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock, SystemClock
from fog_compute.p2p.bitchat.ble_links import AdapterChanged, BleLinks, LinkNews
from fog_compute.p2p.bitchat.ble_messages import (
    PLAIN,
    public_file,
    public_message,
    read_private,
    write_private,
)
from fog_compute.p2p.bitchat.ble_scanner import ScanPolicy
from fog_compute.p2p.bitchat.events import (
    Disconnect,
    FrameReceived,
    FrameSent,
    Link,
    LinkDown,
    LinkUp,
    SendFrame,
    Wake,
    WakeAt,
)
from fog_compute.p2p.bitchat.mail.carried import Tier
from fog_compute.p2p.bitchat.mail.couriers import MAX_MAIL, MailState
from fog_compute.p2p.bitchat.mesh.engine import Mesh, MeshEvent, MeshPolicy
from fog_compute.p2p.bitchat.mesh.news import (
    FileHeard,
    HeardPrivately,
    KeysProved,
    Leave,
    MailHeard,
    MailKept,
    MailSettled,
    News,
    PeerAway,
    PeerNear,
    PostMail,
    Rename,
    SayAll,
    SayTo,
    Sent,
    SentState,
    SessionReady,
    ShareFile,
    TextHeard,
    Trace,
    Traced,
)
from fog_compute.p2p.bitchat.radio.interface import Radio, RadioUnavailable
from fog_compute.p2p.bitchat.radio.system import system_radio
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.files import MAX_FILE, File
from fog_compute.p2p.core.contacts import KeyChanged, PeerBook, Proof
from fog_compute.p2p.core.identity import Identity, fingerprint_of
from fog_compute.p2p.core.messages import DecentralizedMessage, MessageKind, Receipt
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

__all__ = ["BitChatTransport", "OtherLinks"]

ARRIVALS: Final = 512
"""Messages that were heard and not taken; whoever sent one that is dropped hears of no receipt."""

DRAIN_S: Final = 0.5
"""Seconds that the last frames have to leave."""

LEAVE_S: Final = 120.0
"""Seconds for which somebody is left alone whose link was ended for breaking the rules."""

SENDINGS: Final = 4_096
"""Messages of whose further fate is told; of more, the oldest is taken for gone."""

STATES: Final = {
    SentState.ACCEPTED: OutcomeState.ACCEPTED,
    SentState.QUEUED: OutcomeState.QUEUED,
    SentState.FAILED: OutcomeState.FAILED,
}

LOOK_AGAIN: Final = Backoff(2.0, 60.0, jitter=0.2)
"""Until an adapter is looked for again, where other links go on without one."""

NOBODY: Final = "they are not near, and nobody is who could carry it to them"


class OtherLinks(Protocol):
    """Links of the mesh that are no Bluetooth; it tells of them by `BitChatTransport.tell`."""

    async def start(self) -> None:
        """Begin to have links."""
        ...

    async def stop(self) -> None:
        """End all links; safe to call again."""
        ...

    def owns(self, link: Link) -> bool:
        """Whether a link is, or was, one of these."""
        ...

    def send(self, frame: SendFrame) -> None:
        """Send a frame when its turn comes; `FrameSent` follows, whatever happens."""
        ...

    def disconnect(self, link: Link, leave_s: float = 0.0) -> None:
        """End a link, and leave its other side alone for so many seconds."""
        ...


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
        radio: Radio | None = None,
        others: OtherLinks | None = None,
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
        self._radio: Final = system_radio() if radio is None else radio
        self._links: Final = BleLinks(
            self._radio, self.tell, clock=self._clock, rng=self._rng, scan=scan
        )
        self._others = others
        self._name = name
        self._mail = mail
        self._policy: Final = policy
        self._mesh: Mesh | None = None
        self._up: Final[set[Link]] = set()
        self._reach: Final[dict[str, Reach]] = {}
        self._sessions: Final[set[str]] = set()
        self._tokens: Final = itertools.count(1)
        self._answers: dict[str, Sent] | None = None
        self._sending: Final[OrderedDict[str, str]] = OrderedDict()
        self._news: Final[deque[TransportEvent]] = deque()
        self._arrivals = 0
        self._woken: Final = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._finding: asyncio.Task[None] | None = None
        self._trouble: str | None = "it has not been started"
        self._ended = False
        self.dropped: Final[Counter[str]] = Counter()
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

    def join(self, others: OtherLinks) -> None:
        """Let links that are no Bluetooth join the mesh, from the next start on."""
        self._others = others

    async def initialize(self) -> None:
        """Take the adapter, and begin to look for others; without one, other links go on alone.

        Raises:
            TransportUnavailable: there is no adapter, and no other kind of link.
        """
        await self.shutdown()
        self._mesh = self._make_mesh()
        self._ended = False
        self._trouble = None
        try:
            await self._links.start()
        except RadioUnavailable as error:
            self._trouble = str(error)
            if self._others is None:
                self._mesh = None
                raise TransportUnavailable(str(error)) from error
            self._find()
        if self._others is not None:
            await self._others.start()
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
        mesh = self._running()
        if message.requires_privacy:
            return _failed(message, "over Bluetooth others see who is near whom", permanent=True)
        try:
            payloads = write_private(message)
        except Malformed as error:
            return _failed(message, str(error), permanent=True)
        peer_id = bytes.fromhex(destination)[:8]
        near = mesh.peers.get(peer_id)
        if near is not None and near.near:
            commands: list[SayTo | PostMail] = [
                # No receipt came by the best way: everybody is asked.
                SayTo(self._token(message.id), peer_id, payload, wide=attempt > 0)
                for payload in payloads
            ]
        else:
            noise_key = self._noise_key(destination)
            carried = all(len(payload) <= MAX_MAIL for payload in payloads)
            if noise_key is None or not self._up or not carried:
                return _failed(message, NOBODY)
            commands = [
                PostMail(self._token(message.id), message.id, noise_key, payload)
                for payload in payloads
            ]
        return self._ask(message, commands)

    async def broadcast(self, message: DecentralizedMessage) -> int:
        """Say a text to all who are near, or give them a file; over how many links it went.

        Raises:
            TransportUnavailable: the transport does not run, or this cannot be said to all.
        """
        self._running()
        token, links = self._token(message.id), len(self._up)
        command: SayAll | ShareFile
        if message.kind is MessageKind.FILE and not message.room:
            file = File(message.body, message.name or "file", message.media_type)
            command = ShareFile(token, file)
        elif message.kind is MessageKind.TEXT and message.media_type == PLAIN and not message.room:
            # With the same time it has the same id as over the mixnet, and is shown once.
            command = SayAll(token, message.text, message.created_ms or None)
        else:
            raise TransportUnavailable(
                "over Bluetooth only plain text and files go to all who are near"
            )
        outcome = self._ask(message, [command])
        if outcome.state is OutcomeState.FAILED:
            raise TransportUnavailable(outcome.reason or "nobody is near")
        return links

    async def receive(self) -> TransportEvent:
        """Wait for what comes next. Cancelled, nothing is lost.

        Raises:
            TransportUnavailable: the transport does not run, or its adapter is gone for good.
        """
        while not self._news:
            self._running()
            if self._ended:
                await self.shutdown()
                raise TransportUnavailable(self._trouble or "the adapter is gone")
            self._woken.clear()
            await self._woken.wait()
        event = self._news.popleft()
        self._arrivals -= isinstance(event, Arrival)
        return event

    async def confirm(self, arrival: Arrival) -> None:
        """Nobody on the way keeps a message for its recipient, so there is nobody to tell."""

    async def shutdown(self) -> None:
        """Say that this node leaves, end all links, and let go of the adapter."""
        mesh, self._mesh = self._mesh, None
        finding, self._finding = self._finding, None
        if finding is not None:
            finding.cancel()
            await asyncio.wait({finding})
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if mesh is not None:
            for action in mesh.handle(Leave(), self._now()):
                if isinstance(action, SendFrame):
                    self._frame(action)
            await self._links.drain(DRAIN_S)
            self._trouble = "it has been stopped" if self._trouble is None else self._trouble
        if self._others is not None:
            await self._others.stop()
        await self._links.stop()
        self._up.clear()
        self._reach.clear()
        self._sessions.clear()
        self._sending.clear()
        self._woken.set()  # who waits sees that it does not run

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
        )

    def rename(self, name: str) -> None:
        """Be known by another nickname from now on."""
        self._name = name
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
        noise_key = self._noise_key(receiver)
        if self._mesh is not None and noise_key is not None:
            self._step(MailSettled(message_id, noise_key))

    def tell(self, news: LinkNews) -> None:
        """Take in what happened on a link, of whatever kind."""
        if self._mesh is None:
            return
        match news:
            case AdapterChanged(reason, final):
                self._trouble = reason
                self._ended = final and self._others is None
                if final and self._others is not None:
                    self._find()
                self._say(CapabilitiesChanged(self.type))
                return
            case LinkUp(link):
                self._changes(link)
                self._up.add(link)
            case LinkDown(link):
                self._up.discard(link)
                self._changes(link)
            case FrameReceived() | FrameSent():
                pass
        self._step(news)
        if isinstance(news, LinkUp | LinkDown):
            self._look()

    def _changes(self, link: Link) -> None:
        """A first link comes, or the last one went: without an adapter, that is what matters."""
        if self._trouble is not None and not self._up - {link}:
            self._say(CapabilitiesChanged(self.type))

    def _find(self) -> None:
        if self._finding is None or self._finding.done():
            self._finding = asyncio.create_task(self._look_for_adapter(), name="ble-adapter")

    async def _look_for_adapter(self) -> None:
        """Try to take an adapter again and again, while other links go on alone."""
        failures = 0
        while True:
            await self._clock.sleep(LOOK_AGAIN.after(failures, self._rng.random))
            await self._links.stop()
            try:
                await self._links.start()
            except RadioUnavailable as error:
                self._trouble = str(error)
                failures += 1
            else:
                return  # what it says by `tell` follows

    def _make_mesh(self) -> Mesh:
        return Mesh(
            self._identity,
            self._name,
            self._rng,
            policy=self._policy,
            pinned=self._pinned,
            tier=self._tier,
            mail=self._mail,
        )

    def _step(self, event: MeshEvent) -> None:
        """Let the mesh decide, and do what it says."""
        if self._mesh is None:
            return
        for action in self._mesh.handle(event, self._now()):
            match action:
                case SendFrame():
                    self._frame(action)
                case WakeAt(at):
                    self._arm(at)
                case Disconnect(link):
                    if self._others is not None and self._others.owns(link):
                        self._others.disconnect(link, LEAVE_S)
                    else:
                        self._links.disconnect(link, LEAVE_S)
                case _:
                    self._hear(action)

    def _frame(self, frame: SendFrame) -> None:
        if self._others is not None and self._others.owns(frame.link):
            self._others.send(frame)
        else:
            self._links.send(frame)

    def _hear(self, news: News) -> None:
        match news:
            case PeerNear() | PeerAway() | SessionReady() | KeysProved():
                self._hear_of(news)
            case TextHeard(peer_id, message_id, text, sent_ms):
                self._public(peer_id, message_id, text, sent_ms)
            case FileHeard():
                self._file(news)
            case HeardPrivately(_, noise_key, kind, body, sent_ms):
                self._private(noise_key, kind, body, sent_ms or self._now_ms())
            case MailHeard(noise_key, kind, body):
                self._private(noise_key, kind, body, self._now_ms())
            case MailKept(state):
                self._mail = state
                if self.on_mail is not None:
                    self.on_mail(state)
            case Sent():
                self._sent(news)
            case Traced():
                if self.on_traced is not None:
                    self.on_traced(news)

    def _hear_of(self, news: PeerNear | PeerAway | SessionReady | KeysProved) -> None:
        match news:
            case PeerNear(_, announce, _, direct):
                if self._meet(announce.noise_key, announce.signing_key, announce.nickname):
                    self._near(announce.noise_key, direct)
            case PeerAway(peer_id):
                self._away(peer_id)
            case SessionReady(_, noise_key):
                self._sessions.add(fingerprint_of(noise_key))
                self._near(noise_key, True)
            case KeysProved(_, noise_key, signing_key):
                self._meet(noise_key, signing_key, "", in_session=True)

    def _public(self, peer_id: bytes, message_id: str, text: str, sent_ms: int) -> None:
        peer = None if self._mesh is None else self._mesh.peers.get(peer_id)
        if peer is None:
            self.dropped["unknown"] += 1
            return
        sender = fingerprint_of(peer.noise_key)
        self._arrived(public_message(message_id, text, sender, sent_ms), self._proved(sender))

    def _file(self, heard: FileHeard) -> None:
        peer = None if self._mesh is None else self._mesh.peers.get(heard.peer_id)
        if peer is None:
            self.dropped["unknown"] += 1
            return
        sender = fingerprint_of(peer.noise_key)
        recipient = self._identity.fingerprint if heard.directed else None
        file = public_file(heard.message_id, heard.file, sender, heard.sent_ms, recipient)
        self._arrived(file, self._proved(sender))

    def _proved(self, fingerprint: str) -> bool:
        """Whether a signature shows who somebody is.

        Anybody can announce another's Noise key beside a signing key of his own: it takes a word
        from inside a session, or a Noise key that follows from the signing key.
        """
        known = self._book.get(fingerprint)
        return known is not None and known.proof > Proof.ANNOUNCED

    def _private(self, noise_key: bytes, kind: int, body: bytes, sent_ms: int) -> None:
        sender = fingerprint_of(noise_key)
        try:
            message = read_private(kind, body, sender, self._identity.fingerprint, sent_ms)
        except Malformed as error:
            self.dropped[error.reason.value] += 1
            return
        if message is None:
            self.dropped["kind"] += 1
            return
        if message.kind is MessageKind.RECEIPT:
            for one in Receipt.parse(message.body).ids:
                self._step(MailSettled(one, noise_key))
        self._arrived(message, proved=True)

    def _arrived(self, message: DecentralizedMessage, proved: bool) -> None:
        if self._arrivals >= ARRIVALS:
            self.dropped["full"] += 1
            return
        self._arrivals += 1
        self._say(Arrival(self.type, message, sender_verified=proved))

    def _ask(
        self,
        message: DecentralizedMessage,
        commands: list[SayTo | PostMail] | list[SayAll | ShareFile],
    ) -> Outcome:
        """Ask the mesh, which answers at once; the worst of several answers counts."""
        answers: dict[str, Sent] = {}
        for command in commands:
            self._answers = answers
            try:
                self._step(command)
            finally:
                self._answers = None
        worst: Sent | None = None
        for command in commands:
            sent = answers.get(command.token)
            if sent is None or sent.state is not SentState.QUEUED:
                self._sending.pop(command.token, None)
            sent = sent or Sent(command.token, SentState.FAILED, reason="the mesh did not answer")
            if worst is None or _WORSE.index(sent.state) > _WORSE.index(worst.state):
                worst = sent
        if worst is None:
            return _failed(message, "there is nothing to send", permanent=True)
        return Outcome(message.id, STATES[worst.state], worst.reason)

    def _sent(self, sent: Sent) -> None:
        if self._answers is not None:
            self._answers[sent.token] = sent
            return
        message_id = self._sending.get(sent.token)
        if message_id is not None:
            if sent.state is not SentState.QUEUED:
                del self._sending[sent.token]
            self._say(Outcome(message_id, STATES[sent.state], sent.reason))

    def _token(self, message_id: str) -> str:
        token = f"{next(self._tokens)}"
        self._sending[token] = message_id
        while len(self._sending) > SENDINGS:
            self._sending.popitem(last=False)
        return token

    def _meet(
        self, noise_key: bytes, signing_key: bytes, name: str, *, in_session: bool = False
    ) -> bool:
        """Note who is near; False if it shows other keys than before."""
        try:
            self._book.meet(noise_key, signing_key, name, self._now_ms(), in_session=in_session)
        except KeyChanged:
            self.dropped["key"] += 1
            return False
        return True

    def _near(self, noise_key: bytes, direct: bool) -> None:
        fingerprint = fingerprint_of(noise_key)
        direct = direct or fingerprint in self._sessions
        self._reached(fingerprint, Reach.DIRECT if direct else Reach.MESH)

    def _away(self, peer_id: bytes) -> None:
        digits = peer_id.hex()
        for fingerprint in tuple(self._reach):
            if fingerprint.startswith(digits):
                self._sessions.discard(fingerprint)
                self._reached(fingerprint, self._by_courier(fingerprint))

    def _look(self) -> None:
        """Who can be reached how, now that links have come or gone."""
        if not self._up or self._mesh is None:
            for fingerprint in tuple(self._reach):
                self._reached(fingerprint, Reach.NONE)
            return
        for near in self._mesh.peers:
            if near.near:
                self._near(near.noise_key, bool(near.links))
        for peer in self._book:
            if peer.is_kept and self._reach.get(peer.fingerprint, Reach.NONE) <= Reach.COURIER:
                self._reached(peer.fingerprint, self._by_courier(peer.fingerprint))

    def _by_courier(self, fingerprint: str) -> Reach:
        peer = self._book.get(fingerprint)
        return Reach.COURIER if peer is not None and peer.is_kept and self._up else Reach.NONE

    def _reached(self, fingerprint: str, reach: Reach) -> None:
        if self._reach.get(fingerprint, Reach.NONE) == reach:
            return
        if reach is Reach.NONE:
            self._reach.pop(fingerprint, None)
        else:
            self._reach[fingerprint] = reach
        self._say(Reachability(self.type, fingerprint, reach))

    def _noise_key(self, fingerprint: str) -> bytes | None:
        peer = self._book.get(fingerprint)
        return None if peer is None else peer.noise_public

    def _pinned(self, peer_id: bytes) -> bytes | None:
        peer = self._book.by_peer_id(peer_id.hex())
        return None if peer is None else peer.signing_public

    def _tier(self, noise_key: bytes) -> Tier | None:
        peer = self._book.get(fingerprint_of(noise_key))
        if peer is not None and peer.blocked:
            return None
        return Tier.FRIEND if peer is not None and peer.is_kept else Tier.PEER

    def _reason(self) -> str | None:
        """Why nobody can be reached; over a link of another kind somebody can."""
        return None if self._up else self._trouble

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        pause = max(0.0, at - self._now())
        self._timer = asyncio.get_running_loop().call_later(pause, self._step, Wake())

    def _say(self, event: TransportEvent) -> None:
        self._news.append(event)
        self._woken.set()

    def _running(self) -> Mesh:
        if self._mesh is None:
            raise TransportUnavailable(f"BitChat does not run: {self._trouble}")
        return self._mesh

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


_WORSE: Final = (SentState.ACCEPTED, SentState.QUEUED, SentState.FAILED)


def _failed(message: DecentralizedMessage, reason: str, *, permanent: bool = False) -> Outcome:
    return Outcome(message.id, OutcomeState.FAILED, reason, permanent=permanent)
