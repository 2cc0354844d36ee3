"""The bearer token of the HTTP interface: made once, readable by its owner only."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from fastapi.security import HTTPBearer
from starlette.datastructures import Headers

from fog_compute.errors import ConfigError
from fog_compute.reading import read_token

__all__ = ["bearer", "is_authorised", "load_or_make_token"]

_TOKEN_BYTES: Final = 32
bearer: Final = HTTPBearer(auto_error=False, description="The contents of home/daemon/token.")
"""Says in the interface's description what the gate asks for."""


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


def is_authorised(headers: Headers, token: str) -> bool:
    """Whether a request brings the token."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        given.strip().encode(), token.encode()
    )


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
