"""Mail by hand: what is given to whom when people meet, of our own and of what we carry.

A message for somebody out of reach is sealed, given to up to three people who are near, and opened
by whoever it is for; the sender keeps the message until a receipt comes, so that a courier who
throws everything away costs nothing but a chance. It is sealed to a prekey of the recipient where
one is known. Otherwise it can be read by whoever gets the recipient's key later, unlike what goes
through a session.

Decisions alone: the mesh tells who was met, sends what it is given, and tells what became of it.

Source: ``MessageRouter.swift`` and the courier part of ``BLEService.swift`` of the app.
"""

from __future__ import annotations

import enum
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

import betanet
from fog_compute.p2p.bitchat.mail.carried import Carried, CarriedLimits, CarriedMail, Tier
from fog_compute.p2p.bitchat.mail.prekey_books import (
    OwnPrekeys,
    PeerPrekeys,
    PrekeyPolicy,
    PrekeyState,
)
from fog_compute.p2p.bitchat.wire.courier import (
    MAX_CIPHERTEXT,
    MAX_LIFE_MS,
    CourierEnvelope,
    day_of,
    recipient_tag,
    tags_around,
)

__all__ = [
    "MAX_MAIL",
    "CourierLimits",
    "Couriers",
    "Handover",
    "MailOpened",
    "MailState",
    "Nearness",
    "Purpose",
]

PROLOGUE: Final = b"bitchat-courier-v1"
"""What is sealed to a person's own key is bound to this."""

PREKEY_PROLOGUE: Final = b"bitchat-prekey-v1"
"""What is sealed to a prekey, to this and to the prekey's id in 4 bytes."""

SEAL_BYTES: Final = 96
MAX_MAIL: Final = MAX_CIPHERTEXT - SEAL_BYTES
"""Bytes of the longest private payload that fits into an envelope."""


class Purpose(enum.Enum):
    """Why an envelope is handed to somebody."""

    DELIVER = "deliver"
    """It is for that person, who is at the other end of a link."""
    SEND = "send"
    """It is for that person, who is further away: flood it."""
    SPRAY = "spray"
    """That person carries it, too, from now on."""
    POST = "post"
    """That person is to carry mail of our own."""


class Nearness(enum.Enum):
    """How near somebody is who announced themselves."""

    DISTANT = "distant"
    """Others passed the announce on."""
    LINKED = "linked"
    """It came over a link of which nobody else can tell whose it is: somebody may have passed it on
    untouched."""
    PROVED = "proved"
    """A session with that person came over that link, too."""


@dataclass(frozen=True, slots=True)
class Handover:
    """Give an envelope to somebody, in a signed packet to that peer.

    Attributes:
        to: the Noise key of whom it is given to.
        envelope: what.
        purpose: why; all but ``SEND`` go over that peer's own link and nowhere else.
        ticket: what :meth:`Couriers.sent` names it by.
        message_id: of the message of ours in it; "" if it is another's.
    """

    to: bytes
    envelope: CourierEnvelope
    purpose: Purpose
    ticket: int
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class MailOpened:
    """An envelope was for us.

    Attributes:
        sender: the Noise key of who sealed it, proved.
        payload: as inside a session: its kind, and the thing itself.
    """

    sender: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class CourierLimits:
    """All that can be chosen.

    Attributes:
        couriers: to how many people a message of ours is given.
        copies: what each of them may have made of it, the one it gets included.
        own: messages of ours that wait for couriers or a receipt; ``own_each`` for one recipient.
        life_ms: for how long.
        prekeys: what is done with prekeys.
        opened: envelopes that are known again, so that copies of one are opened once.
        under_way: handovers whose end is awaited; of more, the oldest is taken for lost.
        carried: what is carried for others.
    """

    couriers: int = 3
    copies: int = 4
    own: int = 500
    own_each: int = 100
    life_ms: int = MAX_LIFE_MS
    prekeys: PrekeyPolicy = field(default_factory=PrekeyPolicy)
    opened: int = 1_024
    under_way: int = 256
    carried: CarriedLimits = field(default_factory=CarriedLimits)


class OwnMail(msgspec.Struct):
    """A message of our own that others are to carry.

    Attributes:
        message_id: of the message.
        part: which of its payloads it is, and for whom: a hash that nobody else can make.
        recipient: a Noise key.
        envelope: sealed once, so that whoever gets it twice sees that it is one.
        couriers: Noise keys of those who have it.
    """

    message_id: str
    part: bytes
    recipient: bytes
    envelope: CourierEnvelope
    couriers: set[bytes] = msgspec.field(default_factory=set)


class MailState(msgspec.Struct, frozen=True):
    """All that has to survive a restart. The mail is sealed; of the prekeys there are secrets."""

    own: tuple[OwnMail, ...] = ()
    carried: tuple[Carried, ...] = ()
    prekeys: PrekeyState = PrekeyState()


def prekey_prologue(prekey_id: int) -> bytes:
    """What is sealed to a prekey is bound to this."""
    return PREKEY_PROLOGUE + prekey_id.to_bytes(4, "big")


class Couriers:
    """The mail of a node.

    Attributes:
        carried: what it carries for others.
        own_prekeys: what others may seal to.
        peer_prekeys: what it may seal to itself.
        counts: how often what was done or refused; labels of a counter.
    """

    __slots__ = (
        "_limits",
        "_next_ticket",
        "_opened",
        "_own",
        "_public",
        "_secret",
        "_takes_prekeys",
        "_tickets",
        "_tier",
        "carried",
        "counts",
        "own_prekeys",
        "peer_prekeys",
    )

    def __init__(
        self,
        secret: betanet.NoiseSecret,
        tier: Callable[[bytes], Tier | None],
        limits: CourierLimits | None = None,
        state: MailState | None = None,
        *,
        takes_prekeys: Callable[[bytes], bool] = lambda _: True,
    ) -> None:
        """Begin with what survived.

        Args:
            secret: this node's.
            tier: how far the holder of a Noise key is trusted with mail; None is not at all.
            limits: all that can be chosen.
            state: what :attr:`state` was before a restart.
            takes_prekeys: whether the holder of a Noise key may still open what is sealed to one of
                its prekeys; that is not so where it says by now that it knows nothing of them.
        """
        self._secret: Final = secret
        self._public: Final = secret.public
        self._tier: Final = tier
        self._limits: Final = limits or CourierLimits()
        before = state or MailState()
        self._own = {(one.message_id, one.part): one for one in before.own}
        self.carried: Final = CarriedMail(self._limits.carried, before.carried)
        self.own_prekeys: Final = OwnPrekeys(self._limits.prekeys, before.prekeys)
        self.peer_prekeys: Final = PeerPrekeys(self._limits.prekeys, before.prekeys.peers)
        self._takes_prekeys: Final = takes_prekeys
        self.counts: Counter[str] = Counter()
        self._tickets: dict[int, Handover] = {}
        self._next_ticket = 0
        self._opened: dict[bytes, None] = {}

    @property
    def state(self) -> MailState:
        """What has to survive a restart."""
        own = self.own_prekeys
        prekeys = PrekeyState(own.items, own.next_id, own.made_ms, self.peer_prekeys.items)
        return MailState(tuple(self._own.values()), self.carried.items, prekeys)

    def post(
        self,
        message_id: str,
        recipient: bytes,
        payload: bytes,
        near: Iterable[bytes],
        now_ms: int,
    ) -> list[Handover] | None:
        """Seal a message of ours, and give it to couriers now and whenever there is one.

        Args:
            message_id: of the message, which may have several payloads. One that is known is given
                to more couriers.
            recipient: a Noise key.
            payload: as inside a session.
            near: Noise keys of those at the other ends of links.
            now_ms: the time, in ms since 1970.

        Returns:
            What is to be handed over; None where the message cannot go this way, because it is too
            long, or too much waits already.
        """
        # A message to a group has one id and the same bytes for each of its members.
        whole, key = recipient + payload, self._secret.to_bytes()
        part = hashlib.blake2b(whole, key=key, digest_size=8).digest()
        mail = self._own.get((message_id, part))
        if mail is None:
            waiting = [one for one in self._own.values() if one.recipient == recipient]
            if len(payload) > MAX_MAIL:
                self.counts["too_long"] += 1
                return None
            if len(self._own) >= self._limits.own or len(waiting) >= self._limits.own_each:
                self.counts["own_full"] += 1
                return None
            try:
                envelope = self._sealed(recipient, payload, now_ms)
            except betanet.NoiseError as error:
                self.counts[error.reason] += 1
                return None
            mail = OwnMail(message_id, part, recipient, envelope)
            self._own[message_id, part] = mail
        return [
            handover
            for courier in sorted(near, key=lambda key: self._tier(key) is not Tier.FRIEND)
            for handover in self._posted(mail, courier)
        ]

    def settled(self, message_id: str, recipient: bytes) -> None:
        """A message of ours has arrived there, or is given up: no more couriers get it."""
        for one, mail in list(self._own.items()):
            if one[0] == message_id and mail.recipient == recipient:
                del self._own[one]

    def met(self, noise_key: bytes, nearness: Nearness, now_ms: int) -> list[Handover]:
        """Somebody announced themselves.

        Args:
            noise_key: theirs; the announce was signed and believed.
            nearness: how near they are. What is given away for good, mail of others, is given to
                those alone whose link is proved.
            now_ms: the time, in ms since 1970.
        """
        self.carried.expire(now_ms)
        proved = nearness is Nearness.PROVED
        handovers = [
            self._hand(noise_key, one, Purpose.DELIVER if proved else Purpose.SEND)
            for one in (
                self.carried.for_recipient(noise_key, now_ms)
                if proved
                else self.carried.for_distant(noise_key, now_ms)
            )
        ]
        if nearness is not Nearness.DISTANT:
            for mail in self._own.values():
                handovers += self._posted(mail, noise_key)
        if proved:
            room = self._room(noise_key)
            handovers += [
                self._hand(noise_key, one, Purpose.SPRAY)
                for one in self.carried.for_courier(noise_key, room, now_ms)
            ]
        return handovers

    @property
    def busy(self) -> bool:
        """Whether there is any mail."""
        return bool(self._own) or len(self.carried) > 0

    def would_give(self, noise_key: bytes, now_ms: int) -> bool:
        """Whether mail of others would go to somebody whose link is proved."""
        return self.carried.has_for(noise_key, now_ms) or (
            self._room(noise_key) > 0 and self.carried.has_copies_for(noise_key, now_ms)
        )

    def sent(self, ticket: int, *, ok: bool) -> None:
        """What became of a handover: whether the link took it."""
        handover = self._tickets.pop(ticket, None)
        if handover is None:
            return
        envelope, to = handover.envelope, handover.to
        self.counts[f"{handover.purpose.value}_{'sent' if ok else 'lost'}"] += 1
        match handover.purpose:
            case Purpose.DELIVER if ok:
                self.carried.drop(envelope.ciphertext)
            case Purpose.DELIVER:
                self.carried.stays(envelope.ciphertext)
            case Purpose.SPRAY if not ok:
                self.carried.take_back(envelope, to)
            case Purpose.POST if not ok:
                for mail in self._own.values():
                    if mail.envelope.ciphertext == envelope.ciphertext:
                        mail.couriers.discard(to)
            case _:
                pass

    def is_ours(self, envelope: CourierEnvelope, now_ms: int) -> bool:
        """Whether an envelope is for us."""
        return envelope.tag in tags_around(self._public, now_ms)

    def received(
        self, envelope: CourierEnvelope, depositor: bytes | None, now_ms: int
    ) -> MailOpened | None:
        """Open an envelope that is for us, or carry it.

        Args:
            envelope: what came in a packet to us.
            depositor: the Noise key of who made that packet, if it is signed and came over that
                one's own link; None if not. Nobody else's mail is carried: it would be charged to
                whoever was near.
            now_ms: the time, in ms since 1970.
        """
        if envelope.expires_ms <= now_ms:
            self.counts["expired"] += 1
        elif self.is_ours(envelope, now_ms):
            return self._open(envelope, now_ms)
        else:
            tier = None if depositor is None else self._tier(depositor)
            if depositor is None or tier is None:
                self.counts["stranger"] += 1
            elif self.carried.take_in(envelope, depositor, tier, now_ms):
                self.counts["taken"] += 1
        return None

    def expire(self, now_ms: int) -> list[str]:
        """Throw away what has lasted too long; the ids of messages of ours among it."""
        self.carried.expire(now_ms)
        ended = [one for one, mail in self._own.items() if mail.envelope.expires_ms <= now_ms]
        for one in ended:
            del self._own[one]
        return sorted({message_id for message_id, _ in ended})

    @property
    def next_expiry_ms(self) -> int | None:
        """When :meth:`expire` has something to do, at the earliest."""
        own = [mail.envelope.expires_ms for mail in self._own.values()]
        carried = self.carried.next_expiry_ms
        return min([*own, *([] if carried is None else [carried])], default=None)

    def _posted(self, mail: OwnMail, courier: bytes) -> list[Handover]:
        if courier in {mail.recipient, self._public} or self._tier(courier) is None:
            return []
        if courier in mail.couriers or len(mail.couriers) >= self._limits.couriers:
            return []
        if self._room(courier) < 1:
            return []
        mail.couriers.add(courier)
        return [self._hand(courier, mail.envelope, Purpose.POST, mail.message_id)]

    def _room(self, courier: bytes) -> int:
        """How many more envelopes a courier is likely to take from us, who trusts us as we do it.

        Nothing tells whether it took one; those beyond its bound would only seem to be carried.
        """
        tier = self._tier(courier)
        if tier is None:
            return 0
        has = sum(courier in mail.couriers for mail in self._own.values())
        return self._limits.carried.each[tier] - has - self.carried.given_to(courier)

    def _hand(
        self, to: bytes, envelope: CourierEnvelope, purpose: Purpose, message_id: str = ""
    ) -> Handover:
        self._next_ticket += 1
        handover = Handover(to, envelope, purpose, self._next_ticket, message_id)
        self._tickets[handover.ticket] = handover
        if len(self._tickets) > self._limits.under_way:
            self.sent(next(iter(self._tickets)), ok=False)
        return handover

    def _sealed(self, recipient: bytes, payload: bytes, now_ms: int) -> CourierEnvelope:
        prekey = None
        if self._takes_prekeys(recipient):
            prekey = self.peer_prekeys.assign(recipient, now_ms)
        key, prologue = recipient, PROLOGUE
        if prekey is not None:
            key, prologue = prekey.key, prekey_prologue(prekey.id)
            self.counts["sealed_to_prekey"] += 1
        return CourierEnvelope(
            recipient_tag(recipient, day_of(now_ms)),
            now_ms + self._limits.life_ms,
            betanet.noise_x_seal(key, prologue, payload, self._secret),
            self._limits.copies,
            None if prekey is None else prekey.id,
        )

    def _open(self, envelope: CourierEnvelope, now_ms: int) -> MailOpened | None:
        digest = hashlib.sha256(envelope.ciphertext).digest()
        if digest in self._opened:
            self.counts["opened_before"] += 1
            return None
        secret, prologue = self._secret, PROLOGUE
        if envelope.prekey is not None:
            of_prekey = self.own_prekeys.secret(envelope.prekey)
            if of_prekey is None:
                self.counts["unknown_prekey"] += 1
                return None
            secret, prologue = of_prekey, prekey_prologue(envelope.prekey)
        try:
            sender, payload = betanet.noise_x_open(prologue, envelope.ciphertext, secret)
        except betanet.NoiseError as error:
            self.counts[error.reason] += 1
            return None
        if envelope.prekey is not None:
            self.own_prekeys.use(envelope.prekey, now_ms)
        self._opened[digest] = None
        if len(self._opened) > self._limits.opened:
            del self._opened[next(iter(self._opened))]
        self.counts["opened"] += 1
        return MailOpened(sender, payload)
