"""Prekeys: public keys that somebody publishes, each for one message while they are away.

Fields of tag, length (2 bytes) and value; tags that are not known are passed over:

====  ==============  =============================================================================
tag   bytes           value
====  ==============  =============================================================================
01    32              the owner's Noise key
02    36 n            up to 8 prekeys: an id (4 bytes) and an X25519 key (32 bytes) each
03    8               when the bundle was made, ms since 1970; the newest counts
04    64              Ed25519 signature of the owner
====  ==============  =============================================================================

The signature is over the length (1 byte) and text of ``bitchat-prekey-bundle-v1``, the owner's
Noise key, the number of prekeys (1 byte), each prekey's id and key, and the time.

Source: ``BitFoundation/PrekeyBundle.swift`` of the app.
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fog_compute.p2p.bitchat.wire.announce import KEY_BYTES
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.packet import SIGNATURE_BYTES
from fog_compute.p2p.bitchat.wire.signing import Signer
from fog_compute.p2p.bitchat.wire.tlv import field, fields

__all__ = ["MAX_PREKEYS", "Prekey", "PrekeyBundle", "signed_bundle"]

MAX_PREKEYS: Final = 8
ID_BYTES: Final = 4
ENTRY_BYTES: Final = ID_BYTES + KEY_BYTES
CONTEXT: Final = b"bitchat-prekey-bundle-v1"

NOISE_KEY: Final = 0x01
PREKEYS: Final = 0x02
MADE: Final = 0x03
SIGNATURE: Final = 0x04
LENGTHS: Final = {NOISE_KEY: KEY_BYTES, MADE: 8, SIGNATURE: SIGNATURE_BYTES}


class Prekey(msgspec.Struct, frozen=True):
    """One of them.

    Attributes:
        id: 32 bits.
        key: X25519, 32 bytes.
    """

    id: int
    key: bytes


class PrekeyBundle(msgspec.Struct, frozen=True):
    """Somebody's prekeys.

    Attributes:
        noise_key: whose they are.
        prekeys: 1 to 8, no two with one id.
        made_ms: when they were put together.
        signature: of the owner, 64 bytes.
    """

    noise_key: bytes
    prekeys: tuple[Prekey, ...]
    made_ms: int
    signature: bytes

    def encode(self) -> bytes:
        """The payload of a packet of the kind ``PREKEY_BUNDLE``."""
        return b"".join(
            (
                field(NOISE_KEY, self.noise_key, 2),
                field(PREKEYS, _entries(self.prekeys), 2),
                field(MADE, self.made_ms.to_bytes(8, "big"), 2),
                field(SIGNATURE, self.signature, 2),
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> PrekeyBundle:
        """Read a bundle; its signature is not checked.

        Raises:
            Malformed: it is none.
        """
        found: dict[int, bytes] = {}
        for tag, value in fields(payload, 2, "a bundle of prekeys"):
            if len(value) != LENGTHS.get(tag, len(value)):
                raise Malformed(Reason.FIELD, "a bundle of prekeys has a field of other length")
            found[tag] = value
        if not {NOISE_KEY, PREKEYS, MADE, SIGNATURE} <= found.keys():
            raise Malformed(Reason.MISSING, "a bundle of prekeys lacks a part")
        entries = found[PREKEYS]
        count, rest = divmod(len(entries), ENTRY_BYTES)
        if rest or not 1 <= count <= MAX_PREKEYS:
            raise Malformed(Reason.FIELD, f"a bundle has 1 to {MAX_PREKEYS} prekeys")
        prekeys = tuple(
            Prekey(
                int.from_bytes(entries[at : at + ID_BYTES], "big"), entries[at + ID_BYTES :][:32]
            )
            for at in range(0, len(entries), ENTRY_BYTES)
        )
        if len({prekey.id for prekey in prekeys}) < count:
            raise Malformed(Reason.FIELD, "a bundle has two prekeys of one id")
        made_ms = int.from_bytes(found[MADE], "big")
        return cls(found[NOISE_KEY], prekeys, made_ms, found[SIGNATURE])

    def verifies(self, signing_key: bytes) -> bool:
        """Whether its owner, whose signing key this is, signed it."""
        form = _signed_form(self.noise_key, self.prekeys, self.made_ms)
        try:
            Ed25519PublicKey.from_public_bytes(signing_key).verify(self.signature, form)
        except (InvalidSignature, ValueError):
            return False
        return True


def signed_bundle(
    noise_key: bytes, prekeys: tuple[Prekey, ...], made_ms: int, signer: Signer
) -> PrekeyBundle:
    """A bundle of one's own.

    Args:
        noise_key: one's Noise key.
        prekeys: 1 to 8.
        made_ms: later than that of the last one.
        signer: one's signing key.

    Raises:
        Malformed: there are none, or too many.
    """
    if not 1 <= len(prekeys) <= MAX_PREKEYS:
        raise Malformed(Reason.FIELD, f"a bundle has 1 to {MAX_PREKEYS} prekeys")
    signature = signer.sign(_signed_form(noise_key, prekeys, made_ms))
    return PrekeyBundle(noise_key, prekeys, made_ms, signature)


def _entries(prekeys: tuple[Prekey, ...]) -> bytes:
    return b"".join(one.id.to_bytes(ID_BYTES, "big") + one.key for one in prekeys)


def _signed_form(noise_key: bytes, prekeys: tuple[Prekey, ...], made_ms: int) -> bytes:
    return b"%c%b%b%c%b%b" % (
        len(CONTEXT),
        CONTEXT,
        noise_key,
        len(prekeys),
        _entries(prekeys),
        made_ms.to_bytes(8, "big"),
    )
