"""The mail that a node carries for others: what it takes, keeps, gives on, and throws away.

An envelope says nothing of who sent it, to whom, or what; only whoever knows a key finds those for
it. So a node judges by who hands one in: strictly bounded for each of them, and in all, so that it
is nobody's public mailbag. Copies multiply by halves (*spray and wait*): whoever may have n more
made gives half of them away with the copy, and one who has a single one only delivers.

Source: ``Services/Courier/CourierStore.swift`` of the app.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from fog_compute.p2p.bitchat.wire.courier import MAX_LIFE_MS, CourierEnvelope, tags_around

__all__ = ["Carried", "CarriedLimits", "CarriedMail", "Tier"]


class Tier(enum.Enum):
    """How far whoever hands mail in is trusted."""

    FRIEND = "friend"
    """A person that the user knows. Mail of friends is never thrown away for that of others."""
    PEER = "peer"
    """Anybody whose announce is signed, so that a crowd of strangers can carry mail."""


@dataclass(frozen=True, slots=True)
class CarriedLimits:
    """All that can be chosen; the numbers are the app's.

    Attributes:
        most: envelopes in all, of which up to ``most_of_peers`` are not of friends.
        each: envelopes of one depositor, by tier.
        slack_ms: how much longer than a day one may last, because clocks differ.
        again_ms: how long after a copy was sent to a recipient far away the next one may follow.
    """

    most: int = 40
    most_of_peers: int = 20
    each: dict[Tier, int] = field(default_factory=lambda: {Tier.FRIEND: 5, Tier.PEER: 2})
    slack_ms: int = 3_600_000
    again_ms: int = 600_000


class Carried(msgspec.Struct):
    """One envelope on its way by hand.

    Attributes:
        envelope: as it came; ``copies`` counts down.
        depositor: the Noise key of who handed it in.
        tier: how far that one is trusted.
        given: Noise keys of those who got copies.
        sent_ms: when a copy was last sent to its recipient far away.
        leaving: it is being handed to its recipient at this moment.
    """

    envelope: CourierEnvelope
    depositor: bytes
    tier: Tier
    given: set[bytes] = msgspec.field(default_factory=set)
    sent_ms: int | None = None
    leaving: bool = False


class CarriedMail:
    """What a node carries, oldest first.

    Attributes:
        refused: how often what for; labels of a counter.
    """

    __slots__ = ("_items", "_limits", "refused")

    def __init__(self, limits: CarriedLimits | None = None, items: Iterable[Carried] = ()) -> None:
        self._limits: Final = limits or CarriedLimits()
        self._items: dict[bytes, Carried] = {one.envelope.ciphertext: one for one in items}
        self.refused: Counter[str] = Counter()
        for one in self._items.values():
            one.leaving = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def items(self) -> tuple[Carried, ...]:
        """All of it, for whoever keeps it on disk."""
        return tuple(self._items.values())

    @property
    def next_expiry_ms(self) -> int | None:
        """When the next envelope is thrown away."""
        return min((one.envelope.expires_ms for one in self._items.values()), default=None)

    def take_in(self, envelope: CourierEnvelope, depositor: bytes, tier: Tier, now_ms: int) -> bool:
        """Carry an envelope from now on, if there is room for it.

        Args:
            envelope: what was handed in.
            depositor: the Noise key of who did; proved, and at the other end of a link.
            tier: how far that one is trusted.
            now_ms: the time, in ms since 1970.
        """
        self.expire(now_ms)
        if not now_ms < envelope.expires_ms <= now_ms + MAX_LIFE_MS + self._limits.slack_ms:
            return self._refuse("expiry")
        there = self._items.get(envelope.ciphertext)
        if there is not None:
            # A copy of one may come before the original with more to give. Once anything was given
            # of it, that would fill up again what was spent.
            if not there.given:
                copies = max(there.envelope.copies, envelope.copies)
                there.envelope = there.envelope.with_copies(copies)
            return True
        theirs = sum(one.depositor == depositor for one in self._items.values())
        if theirs >= self._limits.each[tier]:
            return self._refuse("depositor_full")
        peers = [one for one in self._items.values() if one.tier is Tier.PEER]
        if tier is Tier.PEER and len(peers) >= self._limits.most_of_peers:
            return self._refuse("peers_full")
        if len(self._items) >= self._limits.most:
            if not peers and tier is Tier.PEER:
                return self._refuse("full")
            oldest = peers[0] if peers else next(iter(self._items.values()))
            self.drop(oldest.envelope.ciphertext)
            self.refused["evicted"] += 1
        self._items[envelope.ciphertext] = Carried(envelope, depositor, tier)
        return True

    def for_recipient(self, noise_key: bytes, now_ms: int) -> list[CourierEnvelope]:
        """Envelopes for somebody at the other end of a link.

        Each then waits for what became of it: :meth:`drop`, or :meth:`stays`.
        """
        found = [one for one in self._addressed(noise_key, now_ms) if not one.leaving]
        for one in found:
            one.leaving = True
        return [one.envelope.with_copies(1) for one in found]

    def for_distant(self, noise_key: bytes, now_ms: int) -> list[CourierEnvelope]:
        """Copies for somebody who was heard of over others.

        Nobody knows whether they arrive, so the originals stay, and the next ones are not sent
        before a while.
        """
        found: list[CourierEnvelope] = []
        for one in self._addressed(noise_key, now_ms):
            if one.sent_ms is None or now_ms - one.sent_ms >= self._limits.again_ms:
                one.sent_ms = now_ms
                found.append(one.envelope.with_copies(1))
        return found

    def for_courier(self, noise_key: bytes, most: int, now_ms: int) -> list[CourierEnvelope]:
        """Copies for another courier, each with half of what may still be made of it.

        Where one does not arrive, :meth:`take_back` it.
        """
        found: list[CourierEnvelope] = []
        for one in self._to_share(noise_key, now_ms)[: max(most, 0)]:
            half = one.envelope.copies // 2
            found.append(one.envelope.with_copies(half))
            one.envelope = one.envelope.with_copies(one.envelope.copies - half)
            one.given.add(noise_key)
        return found

    def has_for(self, noise_key: bytes, now_ms: int) -> bool:
        """Whether there is anything for somebody."""
        return bool(self._addressed(noise_key, now_ms))

    def has_copies_for(self, noise_key: bytes, now_ms: int) -> bool:
        """Whether another courier could get copies."""
        return bool(self._to_share(noise_key, now_ms))

    def given_to(self, noise_key: bytes) -> int:
        """How many of the envelopes here a courier has a copy of."""
        return sum(noise_key in one.given for one in self._items.values())

    def take_back(self, copy: CourierEnvelope, noise_key: bytes) -> None:
        """Undo that a copy was given to a courier, whom it did not reach."""
        one = self._items.get(copy.ciphertext)
        if one is not None and noise_key in one.given:
            one.given.remove(noise_key)
            one.envelope = one.envelope.with_copies(one.envelope.copies + copy.copies)

    def stays(self, ciphertext: bytes) -> None:
        """An envelope could not be handed to its recipient."""
        one = self._items.get(ciphertext)
        if one is not None:
            one.leaving = False

    def drop(self, ciphertext: bytes) -> None:
        """Carry an envelope no longer."""
        self._items.pop(ciphertext, None)

    def expire(self, now_ms: int) -> None:
        """Throw away what has lasted too long."""
        for ciphertext, one in list(self._items.items()):
            if one.envelope.expires_ms <= now_ms:
                del self._items[ciphertext]

    def _addressed(self, noise_key: bytes, now_ms: int) -> list[Carried]:
        self.expire(now_ms)
        if not self._items:
            return []
        tags = tags_around(noise_key, now_ms)
        return [one for one in self._items.values() if one.envelope.tag in tags]

    def _to_share(self, noise_key: bytes, now_ms: int) -> list[Carried]:
        self.expire(now_ms)
        if not self._items:
            return []
        own_tags = tags_around(noise_key, now_ms)
        return [
            one
            for one in self._items.values()
            if one.envelope.copies > 1
            and not one.leaving
            and one.envelope.tag not in own_tags
            and noise_key != one.depositor
            and noise_key not in one.given
        ]

    def _refuse(self, reason: str) -> bool:
        self.refused[reason] += 1
        return False
