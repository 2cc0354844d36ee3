"""The service of people's messages: it sleeps until somebody has keys here, and then runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias

from fog_compute.clock import Clock
from fog_compute.errors import ServiceUnavailable
from fog_compute.observability.metrics import ChatMetrics, Followed
from fog_compute.p2p.core.messages import DeliveryState
from fog_compute.p2p.figures import figures_of
from fog_compute.p2p.unified import UnifiedDecentralizedSystem, UnifiedP2PConfig
from fog_compute.p2p.wiping import wipe_mark
from fog_compute.server.people import People, newest_of
from fog_compute.threads import in_thread

__all__ = ["Messaging"]


Make: TypeAlias = Callable[[UnifiedP2PConfig], UnifiedDecentralizedSystem]


class Messaging:
    """Starts a person's messages when they are first asked for, or at once if there are keys."""

    def __init__(
        self,
        config: UnifiedP2PConfig,
        make: Make,
        forget_client: Callable[[], Awaitable[None]],
        clock: Clock,
        metrics: ChatMetrics,
    ) -> None:
        """Start nothing yet.

        Args:
            config: whose messages, and how they go.
            make: makes a system.
            forget_client: deletes the mixnet clients for messages, with their keys.
            clock: the time.
            metrics: counts what becomes of messages.
        """
        self._config: Final = config
        self._make: Final = make
        self._forget_client: Final = forget_client
        self._clock: Final = clock
        self._metrics: Final = metrics
        self._refused: Final = Followed(metrics.refused)
        self._system: UnifiedDecentralizedSystem | None = None
        self._people: People | None = None
        self._following: asyncio.Task[None] | None = None
        self._closed = False
        self._turn: Final = asyncio.Lock()

    async def wake(self) -> None:
        """Start, if somebody has keys here.

        Raises:
            FogError: the keys or the store cannot be read.
        """
        async with self._turn:
            await self._end_wipe()
        if await in_thread(Path.exists, self._config.identity_file):
            await self.people()

    async def people(self) -> People:
        """The person's messages; keys are made if there are none.

        Raises:
            ServiceUnavailable: the service is stopped.
            FogError: the keys or the store cannot be used.
        """
        async with self._turn:
            return await self._running()

    async def wipe(self) -> bool:
        """Destroy keys, messages, people and the mixnet client; whether there were keys.

        Raises:
            FogError: something could not be destroyed; the keys went first.
        """
        async with self._turn:
            if self._closed:
                raise ServiceUnavailable("the service messaging is stopped")
            return await self._wipe()

    async def close(self) -> None:
        """Stop; safe to call again."""
        async with self._turn:
            self._closed = True
            await self._end()

    def show_figures(self) -> None:
        """Set the metrics to what is so now: to nothing where nobody has keys, or no longer."""
        metrics = self._metrics
        if self._system is None or self._people is None:
            for gauge in (metrics.deliveries, metrics.transport_up, metrics.links):
                gauge.clear()
            return
        figures = figures_of(self._system)
        for state in DeliveryState:
            if not state.final:
                metrics.deliveries.labels(state.value).set(figures.outbox.get(state, 0))
        for transport, up in figures.up.items():
            metrics.transport_up.labels(transport.value).set(up)
        for kind, number in figures.links.items():
            metrics.links.labels(kind).set(number)
        for refused, number in figures.refused.items():
            self._refused.now(number, *refused)

    async def _running(self) -> People:
        if self._closed:
            raise ServiceUnavailable("the service messaging is stopped")
        if self._people is None:
            await self._end_wipe()
            system = self._make(self._config)
            await system.start()
            self._system = system
            newest = await newest_of(system)
            self._people = People(system, self._config.level, self._clock, newest, self._metrics)
            self._following = asyncio.create_task(self._people.follow(), name="chat-feed")
        return self._people

    async def _end_wipe(self) -> None:
        """Go on with a wipe that was interrupted: nobody is to be here who was destroyed."""
        if await in_thread(wipe_mark(self._config.identity_file).exists):
            await self._wipe()

    async def _wipe(self) -> bool:
        await self._stop_following()
        system, self._system = self._system, None
        return await (system or self._make(self._config)).wipe(self._forget_client)

    async def _stop_following(self) -> None:
        people, self._people = self._people, None
        following, self._following = self._following, None
        if people is not None:
            people.feed.end()
        if following is not None:
            following.cancel()
            await asyncio.wait({following})

    async def _end(self) -> None:
        await self._stop_following()
        system, self._system = self._system, None
        if system is not None:
            await system.stop()
