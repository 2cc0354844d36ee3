"""The bearer token of the HTTP interface: made once, readable by its owner only."""

from __future__ import annotations

import hmac
import os
import re
import secrets
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from fog_compute.errors import ConfigError

__all__ = ["load_or_make_token", "require_token"]

_TOKEN_BYTES: Final = 32
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{32,}")
_bearer: Final = HTTPBearer(auto_error=False, description="The contents of home/daemon/token.")


def load_or_make_token(path: Path) -> str:
    """Read the token, or make one if there is none.

    Raises:
        ConfigError: the file holds no token, is open to others, or cannot be read.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            return _load(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(f"token file {path} cannot be written: {error.strerror}") from error
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    with os.fdopen(descriptor, "w") as file:
        file.write(token)
        file.flush()
        os.fsync(file.fileno())
    return token


async def require_token(
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    """Refuse a request without the right token."""
    token: str = request.app.state.token
    if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
        raise HTTPException(
            HTTPStatus.UNAUTHORIZED,
            "this needs the bearer token that is in daemon/token below FOG_HOME",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _load(path: Path) -> str:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"token file {path} is open to others: run chmod 600 on it")
        token = path.read_text("utf-8", errors="replace").strip()
    except OSError as error:
        raise ConfigError(f"token file {path} cannot be read: {error.strerror}") from error
    if _TOKEN.fullmatch(token) is None:
        raise ConfigError(f"token file {path} holds no token: delete it to get a new one")
    return token
