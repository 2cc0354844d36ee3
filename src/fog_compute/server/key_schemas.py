"""What the HTTP interface takes and gives of keys and logins."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Self

from pydantic import Field, SecretStr

from fog_compute.scopes import DEFAULT_SCOPES, Scope
from fog_compute.server.callers import Caller
from fog_compute.server.forms import VISIBLE
from fog_compute.server.schemas import In, Out
from fog_compute.store import ApiKey

__all__ = ["KeyIn", "KeyListOut", "KeyOut", "LoginIn", "LoginOut", "NewKeyOut"]

LONGEST: Final = timedelta(days=3650)

_SCOPES: Final = "; ".join(f"`{scope}`: {scope.allowed}" for scope in Scope)


class KeyIn(In):
    """A key to be made."""

    name: str = Field(
        min_length=1,
        max_length=80,
        pattern=VISIBLE,
        description="Whose, or what for.",
    )
    scopes: frozenset[Scope] = Field(
        frozenset(DEFAULT_SCOPES), min_length=1, description=f"What it allows. {_SCOPES}."
    )
    lasts_s: float | None = Field(
        None,
        ge=1,
        le=LONGEST.total_seconds(),
        description="Seconds until it expires; without them it does not.",
    )


class KeyOut(Out):
    """A key, without what proves it."""

    id: str = Field(description="The 12 digits with which the key begins, after `fogk_`.")
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None = Field(description="About when it was used for the last time.")
    revoked_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """Return what is shown of a key."""
        return cls(
            id=key.id,
            name=key.name,
            scopes=sorted(key.scopes),
            created_at=key.created_at,
            expires_at=key.expires_at,
            used_at=key.used_at,
            revoked_at=key.revoked_at,
        )


class NewKeyOut(KeyOut):
    """A key that was just made."""

    key: str = Field(description="The key itself: it is shown this once.")


class KeyListOut(Out):
    """All keys, oldest first; those that ended are listed for 90 days more."""

    keys: list[KeyOut]


class LoginIn(In):
    """A key, to be given for a cookie."""

    key: SecretStr = Field(max_length=256, description="An API key, or the home folder's token.")


class LoginOut(Out):
    """Who asks."""

    key_id: str = Field(description="The key's id; `local` is the home folder's own token.")
    name: str
    scopes: list[Scope]
    expires_at: datetime | None
    csrf_token: str | None = Field(
        description="What requests that change something must send as x-csrf-token beside the"
        " cookie; null where a key was sent instead."
    )

    @classmethod
    def of(cls, caller: Caller, csrf: str | None) -> Self:
        """Return what a caller is told of itself."""
        return cls(
            key_id=caller.id,
            name=caller.name,
            scopes=sorted(caller.scopes),
            expires_at=caller.expires_at,
            csrf_token=csrf,
        )
