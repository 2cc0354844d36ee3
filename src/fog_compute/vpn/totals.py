"""What circuits did, over all runs: counts for each level, and nothing finer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final, Protocol

from fog_compute.clock import Clock
from fog_compute.errors import FogError
from fog_compute.levels import PrivacyLevel
from fog_compute.observability import get_logger
from fog_compute.vpn.onion import OnionCircuitService
from fog_compute.vpn.pools import PoolTotals

__all__ = ["TotalsBook", "TotalsKeeper"]

_log = get_logger("fog_compute.vpn")

KEEP_S: Final = 60.0


class TotalsBook(Protocol):
    """Keeps counts for the next run."""

    async def load(self) -> Mapping[PrivacyLevel, PoolTotals]:
        """What all runs did so far.

        Raises:
            FogError: it cannot be read now.
        """
        ...

    async def add(self, more: Mapping[PrivacyLevel, PoolTotals]) -> None:
        """Add what was done since.

        Raises:
            FogError: it cannot be written now.
        """
        ...


class TotalsKeeper:
    """Brings the counts of the last runs back, and adds those of this one once a minute."""

    __slots__ = ("_book", "_clock", "_kept", "_onion")

    def __init__(self, onion: OnionCircuitService, book: TotalsBook, clock: Clock) -> None:
        """Look after the counts of ``onion``."""
        self._onion: Final = onion
        self._book: Final = book
        self._clock: Final = clock
        self._kept: Final[dict[PrivacyLevel, PoolTotals]] = {}

    async def restore(self) -> None:
        """Let circuits count on from what is kept.

        Raises:
            FogError: it cannot be read now.
        """
        for level, totals in (await self._book.load()).items():
            self._onion.circuit_pools[level].restore(totals)
        self._kept.update(self._now())

    async def keep(self) -> None:
        """Have what was done since written down; where it cannot be now, the next time does it."""
        now = self._now()
        more: dict[PrivacyLevel, PoolTotals] = {}
        for level, totals in now.items():
            since = dataclasses.replace(totals)
            since.count(self._kept.get(level, PoolTotals()), sign=-1)
            if since != PoolTotals():
                more[level] = since
        if not more:
            return
        try:
            await self._book.add(more)
        except FogError as error:
            _log.warning("totals.not_kept", reason=str(error))
        else:
            self._kept.update(now)

    async def run(self) -> None:
        """Keep again and again; never ends."""
        while True:
            await self._clock.sleep(KEEP_S)
            await self.keep()

    def _now(self) -> dict[PrivacyLevel, PoolTotals]:
        return {level: pool.totals() for level, pool in self._onion.circuit_pools.items()}
