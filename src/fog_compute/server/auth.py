"""What proves who asks: the token of a home folder, API keys, and the cookies of logins.

The token is made once and is readable by its owner only. Keys and cookies are random, and are
shown once; what is kept of them is a hash. It needs no salt and no slow function, because nobody
goes through 2^256 of them.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fog_compute.errors import ConfigError
from fog_compute.reading import read_token

__all__ = [
    "NewKey",
    "csrf_token",
    "digest",
    "key_id",
    "load_or_make_token",
    "looks_like_cookie",
    "new_cookie",
    "new_key",
    "same",
]

_TOKEN_BYTES: Final = 32
_ID_BYTES: Final = 6
_PREFIX: Final = "fogk"
_KEY: Final = re.compile(rf"{_PREFIX}_([0-9a-f]{{12}})_[A-Za-z0-9_-]{{43}}")
_COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made.

    Attributes:
        id: names it in lists; no secret.
        text: the key itself, ``fogk_ID_SECRET``; nobody can have it again.
    """

    id: str
    text: str = field(repr=False)


def new_key(request: str | None = None) -> NewKey:
    """Make a key of 32 random bytes; its id is that of the request that asks for it, if it has one.

    Asked for again by the same request, the key has the same id and other bytes.
    """
    name = secrets.token_hex(_ID_BYTES) if request is None else digest(request)[: 2 * _ID_BYTES]
    return NewKey(name, f"{_PREFIX}_{name}_{secrets.token_urlsafe(_TOKEN_BYTES)}")


def key_id(text: str) -> str | None:
    """Return the id of what has the form of a key."""
    match = _KEY.fullmatch(text)
    return None if match is None else match[1]


def new_cookie() -> str:
    """Make the value of a login's cookie, of 32 random bytes."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def looks_like_cookie(text: str) -> bool:
    """Whether a text has the form of a login's cookie."""
    return _COOKIE.fullmatch(text) is not None


def csrf_token(cookie: str) -> str:
    """Return what a page must send beside its cookie: whoever has no cookie cannot know it."""
    code = hmac.digest(cookie.encode(), b"fog-compute csrf", "sha256")
    return base64.urlsafe_b64encode(code).decode().rstrip("=")


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def same(one: str, other: str) -> bool:
    """Compare two texts in a time that does not depend on how much of them agrees."""
    return hmac.compare_digest(one.encode(), other.encode())


def load_or_make_token(path: Path) -> str:
    """Read the token, or make one if there is none.

    Raises:
        ConfigError: the file holds no token, is open to others, or cannot be read.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
    except OSError as error:
        raise ConfigError(f"token file {path} cannot be written: {error.strerror}") from error
    return _load(path)


def _make(path: Path) -> None:
    """Write a token aside and give it its name when it is whole; who was first is right."""
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(_TOKEN_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def _load(path: Path) -> str:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"token file {path} is open to others: run chmod 600 on it")
        return read_token(path)
    except OSError as error:
        raise ConfigError(f"token file {path} cannot be read: {error.strerror}") from error
    except ValueError:
        raise ConfigError(f"token file {path} holds no token: delete it to get a new one") from None
