"""A bell over Redis: it rings for others, is missed when it is away, and comes back by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from fog_compute.errors import StoreUnusable
from fog_compute.store.redis_bell import RedisBell
from fog_compute.testing import ManualClock
from tests.redis import PrivateRedis

pytestmark = pytest.mark.asyncio

LONG_S: Final = 60.0


class AtOnce(ManualClock):
    """No pause takes any time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not met():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def listening(bell: RedisBell) -> AsyncIterator[list[None]]:
    rings: list[None] = []
    job = asyncio.create_task(bell.run(lambda: rings.append(None)))
    try:
        yield rings
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def test_a_bell_rings_for_the_others_and_comes_back_when_redis_does(tmp_path: Path) -> None:
    """INV-STORE-31."""
    redis = PrivateRedis(tmp_path)
    one, other = (RedisBell(redis.url, lambda name=name: name, AtOnce()) for name in "ab")  # type: ignore[misc]
    assert one.trouble
    try:
        async with listening(one) as rings, listening(other) as others:
            redis.start()
            for _ in range(2):
                await until(lambda: bool(rings and others) and not (one.trouble or other.trouble))
                rings.clear()
                others.clear()
                one.ring()
                await until(lambda: bool(others))
                assert not rings
                redis.kill()
                await until(lambda: "Redis is away" in one.trouble and bool(other.trouble))
                one.ring()  # in vain, and nobody waits for it
                others.clear()
                redis.start()
    finally:
        redis.kill()


async def test_a_url_of_something_else_is_refused_without_its_password() -> None:
    """INV-STORE-31."""
    with pytest.raises(
        StoreUnusable, match=r"the URL of Redis \(FOG_REDIS_URL\) cannot be read"
    ) as refused:
        RedisBell("http://u:secret@host", lambda: "", ManualClock())
    assert "secret" not in str(refused.value)
