"""Envelopes of mail, sealed and opened, and those that were opened before.

Mail is sealed to a prekey of the recipient where one is known. Otherwise it can be read by whoever
gets the recipient's key later, unlike what goes through a session; and it can be opened for ever,
so a courier who keeps a copy can hand it in again whenever he wants: who knows a Noise key makes a
tag of any day for it, and the end of an envelope is not sealed. So an envelope whose message is
kept is remembered, over restarts, too.

Source: the courier part of ``BLEService.swift`` of the app, which remembers 1,024 for one run.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import betanet
from fog_compute.p2p.bitchat.mail.carried import Tier
from fog_compute.p2p.bitchat.mail.prekey_books import OwnPrekeys, PeerPrekeys
from fog_compute.p2p.bitchat.wire.courier import (
    MAX_CIPHERTEXT,
    MAX_LIFE_MS,
    CourierEnvelope,
    day_of,
    recipient_tag,
    tags_around,
)

__all__ = ["MAX_MAIL", "NAME_BYTES", "MailOpened", "OpenedMail", "SealLimits", "SealedMail"]

PROLOGUE: Final = b"bitchat-courier-v1"
"""What is sealed to a person's own key is bound to this."""

PREKEY_PROLOGUE: Final = b"bitchat-prekey-v1"
"""What is sealed to a prekey, to this and to the prekey's id in 4 bytes."""

SEAL_BYTES: Final = 96
MAX_MAIL: Final = MAX_CIPHERTEXT - SEAL_BYTES
"""Bytes of the longest private payload that fits into an envelope."""

NAME_BYTES: Final = 16
"""Of the hash of a ciphertext, by which all copies of an envelope are known."""


@dataclass(frozen=True, slots=True)
class SealLimits:
    """All that can be chosen.

    Attributes:
        copies: what each courier may have made of an envelope, the one it gets included.
        life_ms: for how long an envelope is carried.
        opening: envelopes that were opened and whose message is not kept yet.
        kept: envelopes that are known again after their message was kept, by how far their sender
            is trusted, so that strangers push out none of friends.
    """

    copies: int = 4
    life_ms: int = MAX_LIFE_MS
    opening: int = 1_024
    kept: Mapping[Tier, int] = field(default_factory=lambda: {Tier.FRIEND: 4_096, Tier.PEER: 1_024})


@dataclass(frozen=True, slots=True)
class MailOpened:
    """An envelope was for us.

    Attributes:
        sender: the Noise key of who sealed it, proved.
        payload: as inside a session: its kind, and the thing itself.
        name: of the envelope, 16 bytes; the same for every copy.
    """

    sender: bytes
    payload: bytes
    name: bytes


class OpenedMail:
    """Names of envelopes that were opened, the oldest first."""

    __slots__ = ("_kept", "_limits", "_opening")

    def __init__(self, limits: SealLimits, kept: Mapping[Tier, Iterable[bytes]]) -> None:
        """Begin with those that were kept."""
        self._limits: Final = limits
        self._opening: dict[bytes, None] = {}
        self._kept: Final[dict[Tier, dict[bytes, None]]] = {
            tier: dict.fromkeys(kept.get(tier, ())) for tier in Tier
        }

    def __contains__(self, name: bytes) -> bool:
        return name in self._opening or any(name in kept for kept in self._kept.values())

    @property
    def kept(self) -> dict[Tier, tuple[bytes, ...]]:
        """Those whose messages are kept, for whoever writes them down."""
        return {tier: tuple(names) for tier, names in self._kept.items() if names}

    def opened(self, name: bytes) -> None:
        """An envelope was opened; after a crash, before its message is kept, it may come again."""
        self._opening[name] = None
        if len(self._opening) > self._limits.opening:
            del self._opening[next(iter(self._opening))]

    def forget(self, name: bytes) -> None:
        """The message of an envelope was not taken: a copy of the envelope may be opened."""
        self._opening.pop(name, None)

    def keep(self, name: bytes, tier: Tier) -> None:
        """The message of an envelope is kept: the envelope is never to be opened again."""
        self._opening.pop(name, None)
        names = self._kept[tier]
        names[name] = None
        if len(names) > self._limits.kept[tier]:
            del names[next(iter(names))]


class SealedMail:
    """Seals mail of ours and opens mail for us.

    Attributes:
        opened: what was opened before.
        counts: how often what was done or refused; labels of a counter.
    """

    __slots__ = ("_limits", "_own", "_peers", "_secret", "counts", "opened")

    def __init__(
        self,
        secret: betanet.NoiseSecret,
        own: OwnPrekeys,
        peers: PeerPrekeys,
        limits: SealLimits,
        kept: Mapping[Tier, Iterable[bytes]],
        counts: Counter[str],
    ) -> None:
        """Seal as ``secret``, and open what is sealed to it or to a prekey of ``own``."""
        self._secret: Final = secret
        self._own: Final = own
        self._peers: Final = peers
        self._limits: Final = limits
        self.opened: Final = OpenedMail(limits, kept)
        self.counts: Final = counts

    def is_ours(self, envelope: CourierEnvelope, now_ms: int) -> bool:
        """Whether an envelope is for us."""
        return envelope.tag in tags_around(self._secret.public, now_ms)

    def seal(
        self, recipient: bytes, payload: bytes, now_ms: int, *, prekeys: bool
    ) -> CourierEnvelope:
        """Seal something to somebody.

        Args:
            recipient: a Noise key.
            payload: as inside a session.
            now_ms: the time, in ms since 1970.
            prekeys: whether the recipient opens what is sealed to prekeys.

        Raises:
            NoiseError: the key is none that anything can be sealed to.
        """
        prekey = self._peers.assign(recipient, now_ms) if prekeys else None
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

    def open(self, envelope: CourierEnvelope, now_ms: int) -> MailOpened | None:
        """Open an envelope that is for us; None if it was opened before, or cannot be."""
        name = hashlib.sha256(envelope.ciphertext).digest()[:NAME_BYTES]
        if name in self.opened:
            self.counts["opened_before"] += 1
            return None
        secret, prologue = self._secret, PROLOGUE
        if envelope.prekey is not None:
            of_prekey = self._own.secret(envelope.prekey)
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
            self._own.use(envelope.prekey, now_ms)
        self.opened.opened(name)
        self.counts["opened"] += 1
        return MailOpened(sender, payload, name)


def prekey_prologue(prekey_id: int) -> bytes:
    """What is sealed to a prekey is bound to this."""
    return PREKEY_PROLOGUE + prekey_id.to_bytes(4, "big")
