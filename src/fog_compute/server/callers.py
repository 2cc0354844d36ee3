"""Who asks: keys and logins, looked up in memory, and read again when that has become old.

A wrong key costs a hash and a look into a table. Only a key that might have been made by another
backend a moment ago lets the tables be read again, and that at most once a second for everybody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from fog_compute.clock import Clock
from fog_compute.errors import FogError
from fog_compute.observability import get_logger
from fog_compute.scopes import Scope
from fog_compute.server.auth import (
    NewKey,
    digest,
    key_id,
    looks_like_cookie,
    new_cookie,
    new_key,
    same,
)
from fog_compute.store import ApiKey, Keys, LiveKeys, Login

__all__ = ["LOCAL", "Caller", "Callers"]

_log = get_logger("fog_compute.server")

LOCAL: Final = "local"
"""The id of the home folder's own token."""

TRUSTED_S: Final = 5.0
"""How long what was read is taken for true: a key that another backend revoked works so long."""
UNKNOWN_S: Final = 1.0
"""Pause between two readings for keys that are not known."""
PATIENCE_S: Final = 1.0
"""How long who is known waits for a reading before what was read last is taken."""
USED_S: Final = 60.0
"""How far the last use of a key lags behind in the database."""
LOGIN: Final = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what that allows.

    Attributes:
        id: of the key, or `LOCAL`.
        login: the hash of the cookie, where it was a cookie that was sent.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    expires_at: datetime | None = None
    login: str | None = None


class Callers:
    """Everybody who may ask something of this backend."""

    def __init__(self, token: str, keys: Callable[[], Keys], clock: Clock) -> None:
        """Know the home folder's token, and the keys and logins of the store.

        Args:
            token: the token.
            keys: gives the keys of the store that runs now, or raises a `FogError`.
            clock: what time it is.
        """
        self._token: Final = digest(token)
        self._keys: Final = keys
        self._clock: Final = clock
        self._live = LiveKeys({}, {})
        self._read_at = float("-inf")
        self._turn: Final = asyncio.Lock()  # or what was read first could be taken last
        self._reading: asyncio.Task[None] | None = None
        self._used: Final[dict[str, datetime]] = {}
        self._noting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Read the keys for the first time."""
        await self._read()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Write down which keys were used."""
        for task in (self._noting, self._reading):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        await self._note_uses()

    async def by_key(self, text: str) -> Caller | None:
        """Return whose key or token this is."""
        given = digest(text)
        if same(given, self._token):
            return Caller(LOCAL, LOCAL, frozenset({Scope.ADMIN}))
        name = key_id(text)
        if name is None:
            return None
        await self._refresh(known=name in self._live.keys)
        key = self._live.keys.get(name)
        if key is None or not same(given, key.sha256) or not key.live(self._clock.now()):
            return None
        self._note_use(key.id)
        return Caller(key.id, key.name, key.scopes, key.expires_at)

    async def by_cookie(self, value: str) -> Caller | None:
        """Return whose login this is."""
        if not looks_like_cookie(value):
            return None
        given = digest(value)
        await self._refresh(known=given in self._live.logins)
        login = self._live.logins.get(given)
        if login is None:
            return None
        caller = self._logged_in(login)
        if caller is not None and caller.id != LOCAL:
            self._note_use(caller.id)
        return caller

    def still(self, caller: Caller) -> bool:
        """Whether who asked may still ask, as far as was read: for answers that go on."""
        if self._clock.monotonic() - self._read_at >= TRUSTED_S:
            self._begin_reading()
        if caller.login is not None:
            login = self._live.logins.get(caller.login)
            return login is not None and self._logged_in(login) is not None
        if caller.id == LOCAL:
            return True
        key = self._live.keys.get(caller.id)
        return key is not None and key.live(self._clock.now())

    async def log_in(self, text: str) -> tuple[str, Caller] | None:
        """Open a login with a key or the token; return its cookie, or None if it is neither.

        Raises:
            StoreError: it cannot be kept now.
        """
        caller = await self.by_key(text)
        if caller is None:
            return None
        now = self._clock.now()
        ends = now + LOGIN
        if caller.expires_at is not None:
            ends = min(ends, caller.expires_at)
        cookie = new_cookie()
        login = Login(digest(cookie), caller.id, digest(text), now, ends)
        await self._keys().log_in(login)
        await self._read()
        return cookie, Caller(caller.id, caller.name, caller.scopes, ends, login.sha256)

    async def log_out(self, caller: Caller) -> None:
        """End the login that a request came with.

        Raises:
            StoreError: that cannot be kept now.
        """
        if caller.login is not None:
            await self._keys().log_out(caller.login)
            await self._read()

    async def make(
        self,
        name: str,
        scopes: frozenset[Scope],
        lasts: timedelta | None,
        request: str | None = None,
    ) -> tuple[NewKey, ApiKey]:
        """Make a key; asked for again under the name of a ``request``, make it anew.

        Nobody keeps its text: who asks again did not get it, and gets another, which alone counts.

        Raises:
            Conflict: there are as many as there may be, or the request made something else, or a
                key that is in use.
            StoreError: it cannot be kept now.
        """
        fresh, now = new_key(request), self._clock.now()
        ends = None if lasts is None else now + lasts
        key = ApiKey(fresh.id, name, digest(fresh.text), scopes, now, ends)
        await self._note_uses()  # or one in use would look as if nobody had it
        key = await self._keys().add(key, again=request is not None)
        await self._read()
        return fresh, key

    async def revoke(self, name: str) -> ApiKey:
        """Let nobody use a key any more.

        Raises:
            NotFound: there is none of this id.
            StoreError: that cannot be kept now.
        """
        key = await self._keys().revoke(name, self._clock.now())
        await self._read()
        return key

    async def keys(self) -> list[ApiKey]:
        """Return all keys, each with its last use.

        Raises:
            StoreError: the database cannot be read now.
        """
        await self._note_uses()
        return list(await self._keys().all())

    def _logged_in(self, login: Login) -> Caller | None:
        now = self._clock.now()
        if now >= login.expires_at:
            return None
        if login.key_id == LOCAL:
            if not same(login.key_sha256, self._token):
                return None
            return Caller(LOCAL, LOCAL, frozenset({Scope.ADMIN}), login.expires_at, login.sha256)
        key = self._live.keys.get(login.key_id)
        if key is None or not same(login.key_sha256, key.sha256) or not key.live(now):
            return None
        return Caller(key.id, key.name, key.scopes, login.expires_at, login.sha256)

    async def _refresh(self, *, known: bool) -> None:
        """Read again if what was read is too old for who asks; one reading serves all."""
        age = self._clock.monotonic() - self._read_at
        if age < (TRUSTED_S if known else UNKNOWN_S):
            return
        await asyncio.wait({self._begin_reading()}, timeout=PATIENCE_S)

    def _begin_reading(self) -> asyncio.Task[None]:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_if_possible(), name="read-keys")
        return self._reading

    async def _read_if_possible(self) -> None:
        try:
            await self._read()
        except FogError as error:
            # Nobody can make or revoke a key either; who was let in before still is.
            self._read_at = self._clock.monotonic()
            _log.warning("keys.unread", reason=str(error))

    async def _read(self) -> None:
        async with self._turn:
            self._live = await self._keys().live(self._clock.now())
            self._read_at = self._clock.monotonic()

    def _note_use(self, name: str) -> None:
        self._used[name] = self._clock.now()
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._note_later(), name="note-uses")

    async def _note_later(self) -> None:
        await self._clock.sleep(USED_S)
        await self._note_uses()

    async def _note_uses(self) -> None:
        """Write down what is not yet; what cannot be is tried again with the next use."""
        times = dict(self._used)
        if not times:
            return
        with contextlib.suppress(FogError):
            await self._keys().used(times)
            for name, at in times.items():
                if self._used.get(name) == at:
                    del self._used[name]
