"""One person's keys: how they are made, named, kept and destroyed.

A person has two keys, as in the BitChat app: an X25519 key, the *Noise key*, by which sessions are
made and everybody is named, and an Ed25519 key that signs. Ours come from one seed: the Noise key
is the signing key in Montgomery form (RFC 7748, section 4.1), as age and libsodium do it. So who
shows the one has shown the other, and nobody can put a signing key of his own beside the Noise key
of somebody else. That both uses of one key do not hurt each other is shown by Thormarker, "On using
the same key pair for Ed25519 and an X25519 based KEM", eprint 2021/509.

People of other programs have keys that say nothing of each other; then the first pair that is seen
counts, and the words that two people compare cover both keys.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Never, Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fog_compute.errors import HomeUnusable, ServiceUnavailable
from fog_compute.locking import take_lock
from fog_compute.p2p.core.words import words_of
from fog_compute.reading import read_state
from fog_compute.text import one_line
from fog_compute.writing import destroy, write_private

__all__ = [
    "FINGERPRINT_DIGITS",
    "KEY_BYTES",
    "NAME_BYTES",
    "PEER_ID_DIGITS",
    "SEED_BYTES",
    "SIGNATURE_BYTES",
    "UNSEEN",
    "Identity",
    "IdentityFile",
    "as_name",
    "fingerprint_of",
    "is_fingerprint",
    "noise_key_of",
    "peer_id_of",
    "verifies",
    "words_for",
]

KEY_BYTES: Final = 32
SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
FINGERPRINT_DIGITS: Final = 64
PEER_ID_DIGITS: Final = 16
NAME_BYTES: Final = 255
"""Longest name in UTF-8: what an announce of the BitChat app has room for."""

COMPARED_BYTES: Final = 12
"""Bytes that the words stand for: who wants another's words tries some 2^96 pairs of keys."""

_DIGITS: Final = frozenset("0123456789abcdef")
_WORDS_CONTEXT: Final = b"fog-words-v1\x00"
_PRIME: Final = 2**255 - 19


def fingerprint_of(noise_public: bytes) -> str:
    """SHA-256 of a Noise key, 64 hexadecimal digits: the name of a person everywhere."""
    return hashlib.sha256(noise_public).hexdigest()


def peer_id_of(fingerprint: str) -> str:
    """What the Bluetooth mesh calls a person: the first 16 digits of the fingerprint."""
    return fingerprint[:PEER_ID_DIGITS]


def is_fingerprint(text: str) -> bool:
    """Whether a text has the form of a fingerprint."""
    return len(text) == FINGERPRINT_DIGITS and _DIGITS.issuperset(text)


def words_for(noise_public: bytes, signing_public: bytes) -> tuple[str, ...]:
    """The twelve words by which two people compare a pair of keys."""
    data = hashlib.sha256(_WORDS_CONTEXT + noise_public + signing_public).digest()
    return words_of(data[:COMPARED_BYTES])


def noise_key_of(signing_public: bytes) -> bytes:
    """The Noise key that belongs to a signing key of ours: the same point in Montgomery form.

    Raises:
        ValueError: the bytes are no such key.
    """
    if len(signing_public) != KEY_BYTES:
        raise ValueError(f"a signing key has {KEY_BYTES} bytes, not {len(signing_public)}")
    y = int.from_bytes(signing_public, "little") & (1 << 255) - 1
    # u = (1 + y) / (1 - y), which y = 1 does not have; y = ±1 and 0 are of small order.
    if y >= _PRIME or y in (0, 1, _PRIME - 1):
        raise ValueError("these bytes are no signing key")
    return ((1 + y) * pow(1 - y, -1, _PRIME) % _PRIME).to_bytes(KEY_BYTES, "little")


def verifies(signing_public: bytes, data: bytes, signature: bytes) -> bool:
    """Whether the holder of a signing key signed data; also false where the key is none."""
    try:
        Ed25519PublicKey.from_public_bytes(signing_public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
"""What counts as printable and shows nothing: fillers, and marks that choose a form."""


def as_name(text: str) -> str:
    """A name that a person gave himself, as one printable line that fits into an announce.

    It is empty where nothing of it would be seen.
    """
    line = one_line(text, NAME_BYTES)
    while len(line.encode()) > NAME_BYTES:
        line = line[:-1]
    return line if UNSEEN.sub("", line).strip() else ""


class Identity:
    """One person's keys. The secret ones are never shown, copied or pickled.

    Attributes:
        noise_public: X25519, 32 bytes.
        signing_public: Ed25519, 32 bytes.
        fingerprint: 64 hexadecimal digits.
    """

    __slots__ = (
        "_noise_secret",
        "_seed",
        "_signing",
        "fingerprint",
        "noise_public",
        "signing_public",
    )

    def __init__(self, seed: bytes) -> None:
        """Make the keys of a seed, 32 random bytes.

        Raises:
            ValueError: it has another length.
        """
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        self._seed: Final = bytearray(seed)
        self._signing: Ed25519PrivateKey | None = Ed25519PrivateKey.from_private_bytes(seed)
        scalar = bytearray(hashlib.sha512(seed).digest()[:KEY_BYTES])
        scalar[0] &= 248
        scalar[31] = scalar[31] & 127 | 64
        self._noise_secret: Final = scalar
        self.signing_public: Final = self._signing.public_key().public_bytes_raw()
        self.noise_public: Final = (
            X25519PrivateKey.from_private_bytes(bytes(scalar)).public_key().public_bytes_raw()
        )
        self.fingerprint: Final = fingerprint_of(self.noise_public)

    @classmethod
    def new(cls, draw: Callable[[int], bytes] = secrets.token_bytes) -> Self:
        """Make a person's keys of ``draw(32)``."""
        return cls(draw(SEED_BYTES))

    @property
    def peer_id(self) -> str:
        """What the Bluetooth mesh calls this person."""
        return peer_id_of(self.fingerprint)

    @property
    def words(self) -> tuple[str, ...]:
        """What this person reads aloud to be verified."""
        return words_for(self.noise_public, self.signing_public)

    @property
    def noise_secret(self) -> bytes:
        """The X25519 secret, for Noise handshakes alone; make no copy that stays.

        Raises:
            ServiceUnavailable: it has been erased.
        """
        self._alive()
        return bytes(self._noise_secret)

    @property
    def seed(self) -> bytes:
        """What all keys come from, for the file in which they are kept.

        Raises:
            ServiceUnavailable: it has been erased.
        """
        self._alive()
        return bytes(self._seed)

    def sign(self, data: bytes) -> bytes:
        """Sign data, 64 bytes; equal data gives equal bytes (RFC 8032).

        Raises:
            ServiceUnavailable: the keys have been erased.
        """
        return self._alive().sign(data)

    def erase(self) -> None:
        """Overwrite the secrets that this object holds; it signs nothing any more."""
        for secret in (self._seed, self._noise_secret):
            secret[:] = bytes(len(secret))
        self._signing = None

    def _alive(self) -> Ed25519PrivateKey:
        if self._signing is None:
            raise ServiceUnavailable(f"the keys of {self.peer_id} have been erased")
        return self._signing

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"

    def __reduce__(self) -> Never:
        raise TypeError("keys cannot be copied or pickled: read their file")


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    seed: str
    name: str = ""


class IdentityFile:
    """The file of a person's keys in a home folder: its owner's alone, whole or not there.

    Its folder has to exist. Two processes that ask at once for keys get the same ones.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self._path: Final = path

    def load_or_make(
        self, name: str = "", draw: Callable[[int], bytes] = secrets.token_bytes
    ) -> tuple[Identity, str]:
        """A person's keys and the name under which he is known; made if there are none.

        Args:
            name: kept instead of the name of before, if it is not empty.
            draw: where new keys come from.

        Raises:
            HomeUnusable: the file cannot be read or written, is damaged, or others can read it.
        """
        with self._turn():
            kept = self._read()
            if kept is None:
                identity = Identity.new(draw)
                kept = _Kept(1, identity.seed.hex())
                self._write(msgspec.structs.replace(kept, name=as_name(name)))
            elif as_name(name) not in ("", kept.name):
                self._write(msgspec.structs.replace(kept, name=as_name(name)))
            return Identity(bytes.fromhex(kept.seed)), as_name(name) or kept.name

    def wipe(self) -> bool:
        """Overwrite the keys and delete them; whether there were any.

        Raises:
            HomeUnusable: the file cannot be overwritten or deleted; the text says which is left.
        """
        with self._turn():
            return destroy(self._path, self._unusable)

    def _read(self) -> _Kept | None:
        try:
            if self._path.stat().st_mode & 0o077:
                raise HomeUnusable(
                    f"the keys in {self._path} may be read by others: chmod go-rwx {self._path}"
                )
            kept = msgspec.json.decode(read_state(self._path), type=_Kept)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable("cannot be read", error) from error
        except (msgspec.DecodeError, ValueError):
            raise self._damaged() from None
        if kept.version != 1 or not is_fingerprint(kept.seed):  # as many digits
            raise self._damaged()
        return kept

    def _write(self, kept: _Kept) -> None:
        try:
            write_private(self._path, msgspec.json.encode(kept))
        except OSError as error:
            raise self._unusable("cannot be written", error) from error

    def _damaged(self) -> HomeUnusable:
        return HomeUnusable(
            f"the keys in {self._path} are damaged: put a copy of the file in its place, or delete"
            " it to be somebody new"
        )

    def _unusable(self, what: str, error: OSError) -> HomeUnusable:
        return HomeUnusable(f"the keys in {self._path} {what}: {error.strerror}")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        lock = self._path.with_name(f"{self._path.name}.lock")
        try:
            descriptor = take_lock(lock)
        except OSError as error:
            raise HomeUnusable(f"{lock} cannot be locked: {error.strerror}") from error
        if descriptor is None:
            raise HomeUnusable(f"another process has {self._path} in use: try again")
        try:
            yield
        finally:
            os.close(descriptor)
