"""Blobs as they travel: encrypted under a key of the session, named by the ciphertext's hash.

Two sessions that send the same module send different bytes under different names, so a worker's
cache says nothing about who else ran what.  Inside a session equal blobs get equal names: the nonce
is derived from the content, so nothing is stored twice and a nonce never meets two contents.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fog_compute.errors import InvalidTask

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
OVERHEAD: Final = NONCE_BYTES + 16
_AAD: Final = b"fog-compute blob v1"


class BadBlob(InvalidTask):
    """A ciphertext that does not have its name, or does not open."""


@dataclass(frozen=True, slots=True)
class SealedBlob:
    """A blob as it travels."""

    ref: bytes  # SHA-256 of the ciphertext
    data: bytes = field(repr=False)  # nonce, ciphertext, tag


def new_key() -> bytes:
    """Return a fresh session key."""
    return secrets.token_bytes(KEY_BYTES)


def session_of(key: bytes) -> bytes:
    """Return the 16 bytes by which a worker knows a session: who has them has not its key."""
    return hashlib.sha256(b"fog-compute session\0" + key).digest()[:16]


def blob_ref(ciphertext: bytes) -> bytes:
    """Return the name of a ciphertext."""
    return hashlib.sha256(ciphertext).digest()


def seal_blob(key: bytes, plaintext: bytes) -> SealedBlob:
    """Encrypt one blob for a session; the same blob always gives the same result."""
    nonce = hmac.digest(key, b"nonce" + hashlib.sha256(plaintext).digest(), "sha256")[:NONCE_BYTES]
    data = nonce + ChaCha20Poly1305(key).encrypt(nonce, plaintext, _AAD)
    return SealedBlob(ref=blob_ref(data), data=data)


class WrongName(BadBlob):
    """A ciphertext is not the one that it is named as."""


def open_blob(key: bytes, ref: bytes, ciphertext: bytes) -> bytes:
    """Decrypt one blob.

    Raises:
        WrongName: the name is not the ciphertext's.
        BadBlob: the key does not open it.
    """
    if not hmac.compare_digest(blob_ref(ciphertext), ref):
        raise WrongName("a blob does not have the hash that it is named by: send it again")
    try:
        return ChaCha20Poly1305(key).decrypt(
            ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:], _AAD
        )
    except (InvalidTag, ValueError) as err:
        raise BadBlob("a blob does not open under the key of its task") from err
