"""Contact cards: what one person gives another so that messages find them.

A card holds a name, the signing key, the addresses in the mixnet by privacy level, and when it was
issued; all of that is signed. The Noise key is not in it: it follows from the signing key (see
:mod:`fog_compute.p2p.core.identity`). As text it is ``fogcard1`` and base32 in small letters;
in capitals it is what a QR code packs best.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Final, Self, TypeAlias

import msgspec
from msgspec import Meta

from fog_compute.errors import FogError
from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.core.identity import (
    KEY_BYTES,
    NAME_BYTES,
    SIGNATURE_BYTES,
    Identity,
    as_name,
    fingerprint_of,
    noise_key_of,
    verifies,
    words_for,
)

__all__ = ["CARD_PREFIX", "MAX_CARD_CHARS", "CardInvalid", "ContactCard"]

CARD_PREFIX: Final = "fogcard1"
MAX_CARD_BYTES: Final = 1240
MAX_CARD_CHARS: Final = len(CARD_PREFIX) + MAX_CARD_BYTES * 8 // 5
"""Longest text of a card; a QR code of version 40 has room for twice that."""

MAX_ADDRESS_BYTES: Final = 600
_ADDRESS_PREFIX: Final = "fog1"
_CONTEXT: Final = b"fog-card-v1\x00"
_MAX_MS: Final = 2**53


class CardInvalid(FogError, ValueError):
    """A text is no contact card, or nobody signed it."""


_Address: TypeAlias = tuple[int, Annotated[bytes, Meta(min_length=1, max_length=MAX_ADDRESS_BYTES)]]


class _Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=NAME_BYTES)]
    signing_public: Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
    addresses: Annotated[tuple[_Address, ...], Meta(max_length=len(PrivacyLevel))]
    issued_ms: Annotated[int, Meta(ge=0, le=_MAX_MS)]


class ContactCard(msgspec.Struct, frozen=True):
    """A card whose signature is good: `make` and `parse` are the ways to one.

    Attributes:
        name: what its owner calls himself.
        noise_public: X25519, 32 bytes.
        signing_public: Ed25519, 32 bytes.
        addresses: in the mixnet, by privacy level.
        issued_ms: when it was made, Unix milliseconds: the newest of several holds.
        text: the whole card.
    """

    name: str
    noise_public: bytes
    signing_public: bytes
    addresses: Mapping[PrivacyLevel, str]
    issued_ms: int
    text: str

    @property
    def fingerprint(self) -> str:
        """Whose card it is."""
        return fingerprint_of(self.noise_public)

    @property
    def words(self) -> tuple[str, ...]:
        """What its owner reads aloud to be verified."""
        return words_for(self.noise_public, self.signing_public)

    @classmethod
    def make(
        cls,
        identity: Identity,
        name: str,
        addresses: Mapping[PrivacyLevel, str],
        issued_ms: int,
    ) -> Self:
        """Sign a card; the same arguments give the same text.

        Raises:
            CardInvalid: an address is none, or all of it is too long.
        """
        listed = sorted((level.hops, _packed(address)) for level, address in addresses.items())
        body = _Body(as_name(name), identity.signing_public, tuple(listed), issued_ms)
        signed = msgspec.msgpack.encode(body)
        data = identity.sign(_CONTEXT + signed) + signed
        if len(data) > MAX_CARD_BYTES:
            raise CardInvalid("the name and the addresses are too long for a card")
        return cls._of(body, CARD_PREFIX + _base32(data))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a card; blanks around it, line breaks in it and capitals do not matter.

        Raises:
            CardInvalid: it is none, damaged, or nobody signed it.
        """
        if len(text) > 2 * MAX_CARD_CHARS:
            raise CardInvalid(f"a card has at most {MAX_CARD_CHARS} characters")
        whole = "".join(text.split()).lower()
        if not whole.startswith(CARD_PREFIX):
            raise CardInvalid(f"a card begins with {CARD_PREFIX}: copy it as a whole")
        data = _unbase32(whole.removeprefix(CARD_PREFIX))
        signature, signed = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
        try:
            body = msgspec.msgpack.decode(signed, type=_Body)
        except (msgspec.DecodeError, msgspec.ValidationError, ValueError):
            raise _damaged() from None
        if msgspec.msgpack.encode(body) != signed or as_name(body.name) != body.name:
            raise _damaged()  # one card has one text, and a name that can be shown
        if not verifies(body.signing_public, _CONTEXT + signed, signature):
            raise _damaged()
        return cls._of(body, whole)

    @classmethod
    def _of(cls, body: _Body, text: str) -> Self:
        try:
            levels = [PrivacyLevel.of_hops(hops) for hops, _ in body.addresses]
            noise_public = noise_key_of(body.signing_public)
        except ValueError:
            raise _damaged() from None
        if sorted({hops for hops, _ in body.addresses}) != [h for h, _ in body.addresses]:
            raise _damaged()
        texts = [_ADDRESS_PREFIX + _base32(packed) for _, packed in body.addresses]
        return cls(
            name=body.name,
            noise_public=noise_public,
            signing_public=body.signing_public,
            addresses=dict(zip(levels, texts, strict=True)),
            issued_ms=body.issued_ms,
            text=text,
        )


def _packed(address: str) -> bytes:
    data = b""
    if address.startswith(_ADDRESS_PREFIX):
        data = _unbase32(address.removeprefix(_ADDRESS_PREFIX))
    if not 0 < len(data) <= MAX_ADDRESS_BYTES:
        raise CardInvalid(f"{address[:20]!r} is no address: it begins with {_ADDRESS_PREFIX}")
    return data


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def _unbase32(text: str) -> bytes:
    """Decode what `_base32` made, and nothing that only looks like it.

    Raises:
        CardInvalid: it is nothing of that kind.
    """
    try:
        data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise _damaged() from None
    if _base32(data) != text:
        raise _damaged()
    return data


def _damaged() -> CardInvalid:
    return CardInvalid("the card is damaged: copy it again, as a whole")
