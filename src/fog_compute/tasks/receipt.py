"""Receipts: a worker signs what it brought, so that its requester can show later who brought it.

A receipt is the worker's public key (Ed25519, 32 bytes) and its signature (64 bytes) over the
attempt's handle, the SHA-256 of the result's bytes, and the fuel and time that the result names.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fog_compute.errors import FogError, InvalidTask
from fog_compute.reading import read_state
from fog_compute.tasks.result import ResultHead, TaskResult
from fog_compute.writing import write_private

__all__ = ["KEY_BYTES", "RECEIPT_BYTES", "BadReceipt", "Signer", "SignerUnusable", "check_receipt"]

KEY_BYTES: Final = 32
RECEIPT_BYTES: Final = KEY_BYTES + 64
_DOMAIN: Final = b"fog-compute receipt v1\0"


class BadReceipt(InvalidTask):
    """A receipt that its worker did not sign, or that is about something else."""


class SignerUnusable(FogError):
    """The worker's key cannot be had now."""


class Signer:
    """Signs for one worker."""

    __slots__ = ("_key", "public")

    def __init__(self, key: bytes) -> None:
        """Sign with a private key of 32 bytes."""
        self._key: Final = Ed25519PrivateKey.from_private_bytes(key)
        self.public: Final = self._key.public_key().public_bytes_raw()

    @classmethod
    def at(cls, path: Path) -> Signer:
        """Use the key in a file; made at the first start.

        Raises:
            SignerUnusable: the file cannot be read or written, or holds no key.
        """
        try:
            if not path.exists():
                write_private(path, Ed25519PrivateKey.generate().private_bytes_raw())
            return cls(read_state(path, KEY_BYTES))
        except (OSError, ValueError) as err:
            raise SignerUnusable(f"the key for receipts {path} cannot be used: {err}") from err

    def sign(self, handle: bytes, result: TaskResult) -> bytes:
        """Return the receipt for an attempt's result."""
        return self.public + self._key.sign(_text(handle, result.data, result.head))


def check_receipt(receipt: bytes, handle: bytes, result: TaskResult, known: bytes = b"") -> bytes:
    """Return the key that signed a receipt.

    Args:
        receipt: as it came.
        handle: of the attempt.
        result: what the attempt brought.
        known: the worker's key, where it signed anything before.

    Raises:
        BadReceipt: it is none for this, or another key's.
    """
    if len(receipt) != RECEIPT_BYTES:
        raise BadReceipt(f"the receipt has {len(receipt)} bytes instead of {RECEIPT_BYTES}")
    key = receipt[:KEY_BYTES]
    if known and key != known:
        raise BadReceipt("the receipt is signed by another key than those before")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(
            receipt[KEY_BYTES:], _text(handle, result.data, result.head)
        )
    except (InvalidSignature, ValueError) as err:
        raise BadReceipt("the receipt is forged: its signature is not by its key") from err
    return key


def _text(handle: bytes, data: bytes, head: ResultHead) -> bytes:
    numbers = head.fuel_used.to_bytes(8, "big") + head.wall_ms.to_bytes(8, "big")
    return _DOMAIN + handle + hashlib.sha256(data).digest() + numbers
