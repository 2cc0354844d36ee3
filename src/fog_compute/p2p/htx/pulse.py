"""Whether the mixnet answers now: a packet to oneself, sent when somebody asks.

A link over which nothing comes any more, as when a cable is out, is known for dead after a minute.
Who looks at a screen wants to know at once.
"""

from __future__ import annotations

import asyncio
from typing import Final

import betanet
from fog_compute.clock import Clock
from fog_compute.p2p.htx.mixnet import MixnetClient
from fog_compute.units import format_duration

__all__ = ["Pulse"]

PATIENCE_S: Final = 3.0
"""How long a packet to oneself may take beside the delays that are owed."""

SPREAD: Final = 4
"""By how much the sum of the delays of one packet may be above its mean."""

FRESH_S: Final = 5.0
"""For so long what was found is still so."""


class Pulse:
    """Asks one client at a time; all who ask meanwhile get the same answer."""

    def __init__(self, clock: Clock) -> None:
        """Ask nothing yet."""
        self._clock: Final = clock
        self._asking: asyncio.Task[str | None] | None = None
        self._seen = float("-inf")

    def felt(self) -> None:
        """Something has come back over the network just now."""
        self._seen = self._clock.monotonic()

    async def check(self, client: MixnetClient, hops: int) -> str | None:
        """Why the network does not answer; None where it does, or did a moment ago."""
        if self._clock.monotonic() - self._seen < FRESH_S:
            return None
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(client, hops), name="htx-pulse")
        return await asyncio.shield(self._asking)

    async def _ask(self, client: MixnetClient, hops: int) -> str | None:
        try:
            owed = SPREAD * (hops + 2) * client.status().mean_delay_ms / 1000
            patience = PATIENCE_S + owed
            ping = asyncio.ensure_future(client.ping(hops))
            late = asyncio.ensure_future(self._clock.sleep(patience))
            try:
                await asyncio.wait({ping, late}, return_when=asyncio.FIRST_COMPLETED)
                if not ping.done():
                    return f"the mixnet does not answer: no packet came back for {_in(patience)}"
                ping.result()
            finally:
                for one in (ping, late):
                    one.cancel()
                await asyncio.gather(ping, late, return_exceptions=True)
        except (betanet.BetanetError, OSError) as error:
            return f"the mixnet does not answer: {error}"
        self.felt()
        return None


def _in(seconds: float) -> str:
    return format_duration(round(seconds))
