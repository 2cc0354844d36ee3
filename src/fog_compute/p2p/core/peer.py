"""A person whom one knows: with which keys, how sure that is, and what one calls them."""

from __future__ import annotations

import enum
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.core.identity import (
    UNSEEN,
    fingerprint_of,
    noise_key_of,
    peer_id_of,
    words_for,
)

__all__ = ["SHORTEST_START", "TRUST", "Peer", "Proof", "Trust", "TrustEvent", "alike", "proof_of"]

SHORTEST_START: Final = 4
"""Digits of a fingerprint by which somebody can be named."""


class Trust(enum.StrEnum):
    """How one knows somebody."""

    STRANGER = "stranger"  # seen, not chosen
    CONTACT = "contact"  # a card was added, or a name given
    VERIFIED = "verified"  # the words were compared


class TrustEvent(enum.StrEnum):
    """What changes how one knows somebody."""

    ADD = "add"
    VERIFY = "verify"
    REPLACE = "replace"  # the signing key, by one with better proof


class Proof(enum.IntEnum):
    """What says that a signing key belongs to a Noise key, the best last."""

    ANNOUNCED = 0  # an announce that the signing key itself signed
    SESSION = 1  # said inside a Noise session, so by who has the Noise key
    DERIVED = 2  # the one follows from the other


TRUST: Final[Mapping[tuple[Trust, TrustEvent], Trust]] = MappingProxyType(
    {
        (Trust.STRANGER, TrustEvent.ADD): Trust.CONTACT,
        (Trust.CONTACT, TrustEvent.ADD): Trust.CONTACT,
        (Trust.VERIFIED, TrustEvent.ADD): Trust.VERIFIED,
        (Trust.STRANGER, TrustEvent.VERIFY): Trust.VERIFIED,
        (Trust.CONTACT, TrustEvent.VERIFY): Trust.VERIFIED,
        (Trust.VERIFIED, TrustEvent.VERIFY): Trust.VERIFIED,
        (Trust.STRANGER, TrustEvent.REPLACE): Trust.STRANGER,
        (Trust.CONTACT, TrustEvent.REPLACE): Trust.CONTACT,
        (Trust.VERIFIED, TrustEvent.REPLACE): Trust.CONTACT,
    }
)
"""How one knows somebody after something happened."""


class Peer(msgspec.Struct, frozen=True):
    """Another person, as one knows them.

    Attributes:
        noise_public: X25519, 32 bytes.
        signing_public: Ed25519, 32 bytes.
        name: what they call themselves; anybody can take any name.
        petname: what one calls them oneself; "" if nothing.
        trust: how one knows them.
        proof: what says that the two keys belong together.
        blocked: whether nothing of theirs is shown.
        addresses: in the mixnet, by privacy level, of the newest card.
        card_ms: when that card was issued; 0 without one.
        first_seen_ms: when one first heard of them.
        last_seen_ms: when last.
        conflict_ms: when a signing key was last refused; 0 if never.
    """

    noise_public: bytes
    signing_public: bytes
    name: str = ""
    petname: str = ""
    trust: Trust = Trust.STRANGER
    proof: Proof = Proof.ANNOUNCED
    blocked: bool = False
    addresses: Mapping[PrivacyLevel, str] = {}
    card_ms: int = 0
    first_seen_ms: int = 0
    last_seen_ms: int = 0
    conflict_ms: int = 0

    @property
    def fingerprint(self) -> str:
        """Their name for programs."""
        return fingerprint_of(self.noise_public)

    @property
    def peer_id(self) -> str:
        """What the Bluetooth mesh calls them."""
        return peer_id_of(self.fingerprint)

    @property
    def words(self) -> tuple[str, ...]:
        """What they read aloud when they are verified."""
        return words_for(self.noise_public, self.signing_public)

    @property
    def is_kept(self) -> bool:
        """Whether one did something about them, so that they are never dropped."""
        return self.trust is not Trust.STRANGER or self.blocked or bool(self.petname)

    @property
    def known_as(self) -> str:
        """The name by which one knows them without digits behind it; "" if there is none."""
        return self.petname or ("" if self.trust is Trust.STRANGER else self.name)

    @property
    def shown(self) -> str:
        """What people call them: one's own name, or theirs, marked if one did not choose them."""
        marked = f"{self.name or 'somebody'}#{self.fingerprint[:SHORTEST_START]}"
        return self.known_as or marked

    def is_called(self, name: str) -> bool:
        """Whether a name is theirs, or one's own for them."""
        heard = alike(name)
        return bool(heard) and heard in (alike(self.name), alike(self.petname))


def alike(name: str) -> str:
    """A name as people hear it: those of two people must differ in this."""
    return UNSEEN.sub("", unicodedata.normalize("NFKC", name)).casefold().strip()


def proof_of(noise: bytes, signing: bytes, in_session: bool) -> Proof:
    """What says that a signing key belongs to a Noise key, where both were shown."""
    try:
        if noise_key_of(signing) == noise:
            return Proof.DERIVED
    except ValueError:
        pass
    return Proof.SESSION if in_session else Proof.ANNOUNCED
