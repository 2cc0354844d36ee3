"""API keys and logins in the store, on each kind of database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from fog_compute.errors import NotFound
from fog_compute.scopes import Scope
from fog_compute.store import ApiKey, Conflict, Login, Store, keys
from fog_compute.testing import ManualClock

pytestmark = pytest.mark.asyncio

HOUR = timedelta(hours=1)


def key_of(clock: ManualClock, number: int, lasts: timedelta | None = None) -> ApiKey:
    now = clock.now()
    scopes = frozenset({Scope.READ, Scope.SUBMIT})
    ends = None if lasts is None else now + lasts
    return ApiKey(f"{number:012x}", f"ü {number}", f"{number:064x}", scopes, now, ends)


def login_of(clock: ManualClock, key: ApiKey, number: int) -> Login:
    now = clock.now()
    return Login(f"{number:064x}", key.id, key.sha256, now, now + HOUR)


async def test_key_that_is_asked_for_again_is_there_once(database_url: str) -> None:
    """INV-API-62."""
    clock = ManualClock()
    async with await Store.open(database_url, clock=clock) as store:
        first = await store.keys.add(key_of(clock, 7, HOUR), again=True)
        await clock.advance(3)
        same = replace(key_of(clock, 7, HOUR), sha256="a" * 64)
        assert await store.keys.add(same, again=True) == replace(first, sha256="a" * 64)
        assert list(await store.keys.all()) == [replace(first, sha256="a" * 64)]

        for other in (replace(same, name="x"), key_of(clock, 7), key_of(clock, 7, 2 * HOUR)):
            with pytest.raises(Conflict, match="another key, 000000000007, was made"):
                await store.keys.add(other, again=True)
        await store.keys.used({first.id: clock.now()})
        with pytest.raises(Conflict, match="is in use or revoked"):
            await store.keys.add(same, again=True)
        assert len(await store.keys.all()) == 1


async def test_key_is_found_until_it_is_revoked_or_expires(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-API-05, INV-API-07, INV-API-11."""
    monkeypatch.setattr(keys, "MOST_KEYS", 3)
    monkeypatch.setattr(keys, "MOST_LOGINS", 4)
    clock = ManualClock()
    async with await Store.open(database_url, clock=clock) as store:
        first, second, third = (key_of(clock, n, HOUR if n == 2 else None) for n in (1, 2, 3))
        for key in (first, second, third):
            await store.keys.add(key)
            await clock.advance(1)
        with pytest.raises(Conflict, match="as many as there may be"):
            await store.keys.add(key_of(clock, 4))
        await store.keys.used({first.id: clock.now()})
        logins = []
        for number in range(6):
            logins.append(login_of(clock, first, number))
            await store.keys.log_in(logins[-1])
            await clock.advance(1)
        await store.keys.log_out(logins[3].sha256)
        found = await store.keys.live(clock.now())

        assert found.keys.keys() == {first.id, second.id, third.id}
        assert found.keys[third.id] == third
        assert found.logins.keys() == {logins[n].sha256 for n in (2, 4, 5)}
        assert [key.used_at for key in await store.keys.all()][1:] == [None, None]

        revoked = await store.keys.revoke(first.id, clock.now())
        assert await store.keys.revoke(first.id, clock.now() + HOUR) == revoked
        await clock.advance(HOUR.total_seconds())
        found = await store.keys.live(clock.now())
        assert found.keys.keys() == {third.id}
        assert found.logins == {}
        with pytest.raises(NotFound):
            await store.keys.revoke("f" * 12, clock.now())

        await clock.advance(keys.KEPT.total_seconds() + 1)
        await store.keys.add(key_of(clock, 5))
        assert [key.id[-1] for key in await store.keys.all()] == ["3", "5"]
