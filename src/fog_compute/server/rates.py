"""How often each key may ask, and how often strangers may try."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import ip_address
from typing import Final

from limits import RateLimitItemPerMinute
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError

from fog_compute.clock import Clock
from fog_compute.observability import get_logger

__all__ = ["TRIES_PER_MINUTE", "CountsInMemory", "Rates"]

TRIES_PER_MINUTE: Final = 120
"""Wrong keys of one address that are looked at."""

AWAY_S: Final = 5.0
"""Seconds for which shared counts that cannot be had are not asked for again."""

_log = get_logger("fog_compute.server")

_BUCKETS: Final = 64
"""Places in which strangers are counted: however many addresses they have, that is all."""
_PRUNED_FROM: Final = 4096


class Rates:
    """Counts requests by key, and wrong keys by address.

    Several backends count the requests of a key together once they have been told where; while that
    cannot be asked, each goes on with counts of its own.
    """

    def __init__(self, per_minute: int, clock: Clock) -> None:
        """Let every key ask so often.

        Args:
            per_minute: requests of one key.
            clock: what time it is.
        """
        own = CountsInMemory(clock)
        self._clock: Final = clock
        self._asking: Final = RateLimitItemPerMinute(per_minute)
        self._keys: Final = FixedWindowRateLimiter(own)
        self._shared: FixedWindowRateLimiter | None = None
        self._shared_from = clock.monotonic()
        self._trying: Final = RateLimitItemPerMinute(TRIES_PER_MINUTE, namespace="tries")
        self._strangers: Final = FixedWindowRateLimiter(own)
        self._salt: Final = secrets.token_bytes(16)

    def share(self, counts: Storage) -> None:
        """Count the requests of keys there from now on, as other backends do."""
        self._shared = FixedWindowRateLimiter(counts)

    async def asked(self, key: str) -> int:
        """Count a request; return 0, or after how many seconds the key may ask again."""
        if self._shared is not None and self._clock.monotonic() >= self._shared_from:
            try:
                return await self._hit(self._shared, self._asking, key)
            except StorageError as error:
                self._shared_from = self._clock.monotonic() + AWAY_S
                _log.warning("rates.unshared", reason=type(error.storage_error).__name__)
        return await self._hit(self._keys, self._asking, key)

    async def failed(self, address: str) -> int:
        """Count a wrong key; return 0, or after how many seconds another is looked at."""
        return await self._hit(self._strangers, self._trying, self._bucket(address))

    async def _hit(
        self, limiter: FixedWindowRateLimiter, item: RateLimitItemPerMinute, name: str
    ) -> int:
        if await limiter.hit(item, name):
            return 0
        stats = await limiter.get_window_stats(item, name)
        left = stats.reset_time - self._clock.now().timestamp()
        # A shared count is dated by another clock.
        return max(1, min(math.ceil(left), item.get_expiry()))

    def _bucket(self, address: str) -> str:
        """Who has one address of a network has many: an IPv6 one counts with its /48."""
        try:
            whole = ip_address(address)
        except ValueError:  # none: it came over a socket that has no addresses
            prefix = b""
        else:
            prefix = whole.packed if whole.version == 4 else whole.packed[:6]
        number = int.from_bytes(blake2b(prefix, key=self._salt, digest_size=8).digest())
        return str(number % _BUCKETS)


@dataclass(slots=True)
class _Count:
    value: int
    until: float


class CountsInMemory(Storage):
    """Counts of one process, by a clock that does not jump.

    The library's own looks at the machine's clock, and through all of its counts at every request.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock: Final = clock
        self._counts: Final[dict[str, _Count]] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        """What it raises of its own: nothing that need be told apart."""
        return ValueError

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a count, which begins anew once it expired."""
        count = self._found(key)
        if count is None:
            self._prune()
            count = self._counts[key] = _Count(0, self._now() + expiry)
        count.value += amount
        return count.value

    async def get(self, key: str) -> int:
        """Return a count."""
        count = self._found(key)
        return 0 if count is None else count.value

    async def get_expiry(self, key: str) -> float:
        """Return when a count begins anew, in Unix seconds."""
        count = self._found(key)
        return self._now() if count is None else count.until

    async def check(self) -> bool:
        """Say that it can be used."""
        return True

    async def reset(self) -> int | None:
        """Forget all counts."""
        forgotten = len(self._counts)
        self._counts.clear()
        return forgotten

    async def clear(self, key: str) -> None:
        """Forget a count."""
        self._counts.pop(key, None)

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _found(self, key: str) -> _Count | None:
        count = self._counts.get(key)
        return None if count is None or count.until <= self._now() else count

    def _prune(self) -> None:
        """Forget what expired: of keys that are long gone, too."""
        if len(self._counts) >= _PRUNED_FROM:
            now = self._now()
            for key in [key for key, count in self._counts.items() if count.until <= now]:
                del self._counts[key]
