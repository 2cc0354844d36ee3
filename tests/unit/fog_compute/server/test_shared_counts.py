"""Requests of a key counted together by several backends, and by each alone without a Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from fog_compute.errors import ConfigError
from fog_compute.server.rates import AWAY_S, Rates
from fog_compute.server.shared_counts import shared_counts
from fog_compute.testing import ManualClock
from tests.redis import PrivateRedis

pytestmark = pytest.mark.asyncio


async def test_backends_count_a_key_together_while_their_redis_answers(tmp_path: Path) -> None:
    """INV-API-16."""
    redis = PrivateRedis(tmp_path)
    redis.start()
    clock = ManualClock()
    one, other = Rates(3, clock), Rates(3, clock)
    try:
        async with shared_counts(redis.url) as first, shared_counts(redis.url) as second:
            while not await first.check():
                pass
            one.share(first)
            other.share(second)
            assert [await rates.asked("a") for rates in (one, other, one)] == [0, 0, 0]
            assert await other.asked("a") > 0
            assert await other.asked("b") == 0

            redis.kill()
            alone = [await other.asked("a") for _ in range(4)]
            assert alone[:3] == [0, 0, 0]
            assert alone[3] > 0

            redis.start()
            await clock.advance(AWAY_S)
            while not await second.check():
                pass
            assert await other.asked("c") == 0
            assert await one.asked("c") == 0
    finally:
        redis.kill()


@pytest.mark.parametrize("url", ["nowhere", "http://127.0.0.1", "redis://u:secret@[/0"])
async def test_what_names_no_redis_is_said_without_the_url(url: str) -> None:
    """INV-API-16."""
    with pytest.raises(ConfigError, match="FOG_REDIS_URL") as caught:
        async with shared_counts(url):
            pass
    assert "secret" not in str(caught.value)
