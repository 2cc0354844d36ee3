"""All links of a node's mesh: those of its adapter, which comes and goes, and those of other kinds.

Where other links go on without an adapter, it is looked for again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock
from fog_compute.observability import get_logger
from fog_compute.p2p.bitchat.ble_links import AdapterChanged, BleLinks, LinkNews
from fog_compute.p2p.bitchat.ble_scanner import ScanPolicy
from fog_compute.p2p.bitchat.events import Link, LinkSource, SendFrame
from fog_compute.p2p.bitchat.radio.interface import Radio, RadioUnavailable
from fog_compute.p2p.core.background import background
from fog_compute.p2p.core.transport import TransportUnavailable

__all__ = ["AllLinks"]

_log = get_logger("fog_compute.p2p")

DRAIN_S: Final = 0.5
"""Seconds that the last frames have to leave."""

LEAVE_S: Final = 120.0
"""Seconds for which somebody is left alone whose link was ended for breaking the rules."""

LOOK_AGAIN: Final = Backoff(2.0, 60.0, jitter=0.2)
"""Until an adapter is looked for again, where other links go on without one."""


class AllLinks:
    """Links over the radio and over what else there is.

    Attributes:
        others: links that are no Bluetooth; they may be named until the start.
        trouble: why the adapter cannot be used; None if it can.
        ended: there will be no link any more before the next start.
    """

    __slots__ = ("_clock", "_finding", "_links", "_rng", "ended", "others", "trouble")

    def __init__(
        self,
        radio: Radio,
        others: LinkSource | None,
        tell: Callable[[LinkNews], None],
        *,
        clock: Clock,
        rng: Random,
        scan: ScanPolicy | None = None,
    ) -> None:
        """Start nothing yet; ``tell`` hears what happens on the links of the radio."""
        self._links: Final = BleLinks(radio, tell, clock=clock, rng=rng, scan=scan)
        self._clock: Final = clock
        self._rng: Final = rng
        self._finding: asyncio.Task[None] | None = None
        self.others = others
        self.trouble: str | None = "it has not been started"
        self.ended = False

    @property
    def limited_because(self) -> str | None:
        """Why the adapter only connects, or is only connected to; None if it does both."""
        return self._links.limited_because

    async def start(self) -> None:
        """Take the adapter; without one, other links go on alone.

        Raises:
            TransportUnavailable: there is no adapter, and no other kind of link.
        """
        self.ended = False
        self.trouble = None
        try:
            await self._links.start()
        except RadioUnavailable as error:
            self.trouble = str(error)
            if self.others is None:
                raise TransportUnavailable(str(error)) from error
            self._find()
        if self.others is not None:
            await self.others.start()

    async def stop(self) -> None:
        """End all links and let go of the adapter; safe to call again."""
        finding, self._finding = self._finding, None
        if finding is not None:
            finding.cancel()
            await asyncio.wait({finding})
        if self.others is not None:
            await self.others.stop()
        await self._links.stop()

    async def drain(self) -> None:
        """Let the last frames leave, for a moment."""
        await self._links.drain(DRAIN_S)

    def send(self, frame: SendFrame) -> None:
        """Send a frame when its turn comes."""
        if self.others is not None and self.others.owns(frame.link):
            self.others.send(frame)
        else:
            self._links.send(frame)

    def disconnect(self, link: Link) -> None:
        """End the link of somebody who broke the rules."""
        if self.others is not None and self.others.owns(link):
            self.others.disconnect(link, LEAVE_S)
        else:
            self._links.disconnect(link, LEAVE_S)

    def changed(self, news: AdapterChanged) -> None:
        """The adapter came or went."""
        self.trouble = news.unavailable_because
        self.ended = news.final and self.others is None
        if news.final and self.others is not None:
            self._find()

    def _find(self) -> None:
        if self._finding is None or self._finding.done():
            self._finding = background(self._look_for_adapter(), "ble-adapter")

    async def _look_for_adapter(self) -> None:
        failures = 0
        while True:
            await self._clock.sleep(LOOK_AGAIN.after(failures, self._rng.random))
            await self._links.stop()
            try:
                await self._links.start()
            except RadioUnavailable as error:
                self.trouble = str(error)
            except Exception as error:  # noqa: BLE001 - or nobody would look any more
                _log.error("radio.failed", error=type(error).__name__)
            else:
                return  # what it says follows
            failures += 1
