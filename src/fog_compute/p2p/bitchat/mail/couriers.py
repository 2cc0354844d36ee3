"""Mail by hand: what is given to whom when people meet, of our own and of what we carry.

A message for somebody out of reach is sealed, given to up to three people who are near, and opened
by whoever it is for; the sender keeps the message until a receipt comes, so that a courier who
throws everything away costs nothing but a chance.

Decisions alone: the mesh tells who was met, sends what it is given, and tells what became of it.

Source: ``MessageRouter.swift`` and the courier part of ``BLEService.swift`` of the app.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

import betanet
from fog_compute.p2p.bitchat.mail.carried import Carried, CarriedLimits, CarriedMail, Tier
from fog_compute.p2p.bitchat.mail.handovers import Handover, Nearness, OwnName, Purpose
from fog_compute.p2p.bitchat.mail.prekey_books import (
    OwnPrekeys,
    PeerPrekeys,
    PrekeyPolicy,
    PrekeyState,
)
from fog_compute.p2p.bitchat.mail.sealed_mail import MAX_MAIL, MailOpened, SealedMail, SealLimits
from fog_compute.p2p.bitchat.wire.courier import CourierEnvelope

__all__ = ["CourierLimits", "Couriers", "MailState"]


@dataclass(frozen=True, slots=True)
class CourierLimits:
    """All that can be chosen.

    Attributes:
        couriers: to how many people a message of ours is given.
        own: messages of ours that wait for couriers or a receipt; ``own_each`` for one recipient.
        seal: of envelopes.
        prekeys: what is done with prekeys.
        under_way: handovers whose end is awaited; of more, the oldest is taken for lost.
        carried: what is carried for others.
    """

    couriers: int = 3
    own: int = 500
    own_each: int = 100
    seal: SealLimits = field(default_factory=SealLimits)
    prekeys: PrekeyPolicy = field(default_factory=PrekeyPolicy)
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
    opened: Mapping[Tier, tuple[bytes, ...]] = {}


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
        "_own",
        "_public",
        "_sealed",
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
        self.peer_prekeys: Final = PeerPrekeys(
            self._limits.prekeys, before.prekeys.peers, lambda key: tier(key) is Tier.FRIEND
        )
        self._takes_prekeys: Final = takes_prekeys
        self.counts: Counter[str] = Counter()
        self._tickets: dict[int, Handover] = {}
        self._next_ticket = 0
        self._sealed: Final = SealedMail(
            secret,
            self.own_prekeys,
            self.peer_prekeys,
            self._limits.seal,
            before.opened,
            self.counts,
        )

    @property
    def state(self) -> MailState:
        """What has to survive a restart."""
        own = self.own_prekeys
        prekeys = PrekeyState(own.items, own.next_id, own.made_ms, self.peer_prekeys.items)
        opened = self._sealed.opened.kept
        return MailState(tuple(self._own.values()), self.carried.items, prekeys, opened)

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
                prekeys = self._takes_prekeys(recipient)
                envelope = self._sealed.seal(recipient, payload, now_ms, prekeys=prekeys)
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
        return self._sealed.is_ours(envelope, now_ms)

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
            return self._sealed.open(envelope, now_ms)
        else:
            tier = None if depositor is None else self._tier(depositor)
            if depositor is None or tier is None:
                self.counts["stranger"] += 1
            elif self.carried.take_in(envelope, depositor, tier, now_ms):
                self.counts["taken"] += 1
        return None

    def taken(self, name: bytes, sender: bytes, *, kept: bool = True) -> None:
        """What an envelope held is kept: the envelope is never opened again; or nobody took it.

        Args:
            name: as in `MailOpened`.
            sender: the Noise key of who sealed it.
            kept: False if a copy of the envelope may be opened.
        """
        if kept:
            self._sealed.opened.keep(name, self._tier(sender) or Tier.PEER)
        else:
            self._sealed.opened.forget(name)

    def expire(self, now_ms: int) -> list[OwnName]:
        """Throw away what has lasted too long; the messages of ours among it."""
        self.carried.expire(now_ms)
        ended: set[OwnName] = set()
        for one, mail in list(self._own.items()):
            if mail.envelope.expires_ms <= now_ms:
                ended.add((mail.message_id, mail.recipient))
                del self._own[one]
        return sorted(ended)

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
        own = (mail.message_id, mail.recipient)
        return [self._hand(courier, mail.envelope, Purpose.POST, own)]

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
        self, to: bytes, envelope: CourierEnvelope, purpose: Purpose, own: OwnName | None = None
    ) -> Handover:
        self._next_ticket += 1
        handover = Handover(to, envelope, purpose, self._next_ticket, own)
        self._tickets[handover.ticket] = handover
        if len(self._tickets) > self._limits.under_way:
            self.sent(next(iter(self._tickets)), ok=False)
        return handover
