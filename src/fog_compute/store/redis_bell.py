"""A bell over Redis, where there is one: it rings where Postgres's own cannot be heard.

Nothing is kept in Redis, and nothing waits for it: while it is away, the notifications of Postgres
and everybody's looks from time to time do as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from fog_compute.clock import Clock
from fog_compute.errors import NOT_REDIS, StoreError, StoreUnusable
from fog_compute.observability import get_logger
from fog_compute.store.bells import AGAIN, CHANNEL

__all__ = ["RedisBell", "reach"]

_log = get_logger("fog_compute.store")

ANSWER_S: Final = 5.0

_NO_RETRY: Final = Retry(NoBackoff(), 0)


async def reach(url: str) -> None:
    """Have a Redis answer once.

    Raises:
        StoreUnusable: the URL names none.
        StoreError: it does not answer.
    """
    try:
        client = Redis.from_url(
            url, socket_connect_timeout=ANSWER_S, socket_timeout=ANSWER_S, retry=_NO_RETRY
        )
    except ValueError:
        raise StoreUnusable(NOT_REDIS) from None
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        raise StoreError(f"Redis is away ({type(error).__name__})") from None
    finally:
        await client.aclose()


class RedisBell:
    """One channel, on which backends publish their ids."""

    __slots__ = ("_clock", "_due", "_me", "_url", "trouble")

    def __init__(self, url: str, me: Callable[[], str], clock: Clock) -> None:
        """Connect to nothing yet; what ``me`` says sent it is passed over.

        Raises:
            StoreUnusable: the URL names no Redis.
        """
        self._url: Final = url
        self._me: Final = me
        self._clock: Final = clock
        self._due: Final = asyncio.Event()
        self.trouble = "Redis is not connected yet"
        try:
            self._client()
        except ValueError:
            # Its text may hold a password, and so may the error.
            raise StoreUnusable(NOT_REDIS) from None

    def ring(self) -> None:
        """Have it published; what is asked for while one is on its way is one more."""
        self._due.set()

    async def run(self, rung: Callable[[], None]) -> None:
        """Publish and listen on connections of its own, and on others when those are lost."""
        failures = 0
        while True:
            client = self._client()
            both = [
                asyncio.create_task(self._publish(client)),
                asyncio.create_task(self._listen(client, rung)),
            ]
            try:
                done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            except (RedisError, OSError) as error:
                failures = 0 if not self.trouble else failures + 1
                why = type(error).__name__  # its text may name the URL
                if not self.trouble:
                    _log.warning("redis.lost", reason=why)
                self.trouble = f"Redis is away ({why}): events go through the database alone"
            finally:
                for task in both:
                    task.cancel()
                await asyncio.gather(*both, return_exceptions=True)
                await client.aclose()
            await self._clock.sleep(AGAIN.after(failures))

    async def _publish(self, client: Redis) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            await client.publish(CHANNEL, self._me())

    async def _listen(self, client: Redis, rung: Callable[[], None]) -> None:
        async with client.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            async for message in channel.listen():
                if message["type"] == "subscribe":  # from here on all of it is heard
                    self.trouble = ""
                    rung()  # for all that happened while nobody listened
                elif message["data"] != self._me():
                    rung()

    def _client(self) -> Redis:
        return Redis.from_url(
            self._url,
            decode_responses=True,
            socket_connect_timeout=ANSWER_S,
            retry=_NO_RETRY,  # `run` tries again, and says so meanwhile
        )
