"""Counts of requests that several backends keep together, in a Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from limits.aio.storage import RedisStorage, Storage

from fog_compute.errors import NO_REDIS, NOT_REDIS, ConfigError

__all__ = ["shared_counts"]

ANSWER_S: Final = 0.5
"""How long a request is held up by a Redis that does not answer; it goes on without."""

_PREFIX: Final = "fog-compute"


@asynccontextmanager
async def shared_counts(url: str) -> AsyncIterator[Storage]:
    """Have counts in the Redis of ``url``, which need not be there yet.

    What it refuses, and its silence, is a ``StorageError``.

    Raises:
        ConfigError: the URL names no Redis, or the program to ask one is not installed.
    """
    try:
        from redis.asyncio import ConnectionPool  # an extra

        pool = ConnectionPool.from_url(
            url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S
        )
    except ImportError as error:
        raise ConfigError(NO_REDIS) from error
    except ValueError:
        # Its text may hold a password, and so may the error.
        raise ConfigError(NOT_REDIS) from None
    try:
        yield RedisStorage(
            "async+redis://",  # the pool knows where
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix=_PREFIX,
            connection_pool=pool,  # type: ignore[arg-type]  # which its words name, not its types
        )
    finally:
        await pool.disconnect()
