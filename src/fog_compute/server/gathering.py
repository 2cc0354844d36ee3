"""What is read when somebody asks for the metrics: each part for itself, and nothing is written.

A part that cannot be read keeps the figures that it had, and counts as one failure; the others are
none the worse for it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from fog_compute.coordinator.registry import by_state
from fog_compute.errors import FogError
from fog_compute.levels import PrivacyLevel
from fog_compute.observability import get_logger
from fog_compute.observability.metrics import Followed
from fog_compute.server.feed import Feed
from fog_compute.server.loop_lag import LoopLag
from fog_compute.server.services import ServiceManager
from fog_compute.threads import in_thread
from fog_compute.vpn.circuits import CircuitState

__all__ = ["PATIENCE_S", "Gathering"]

_log = get_logger("fog_compute.server")

PATIENCE_S: Final = 2.0
"""How long one part may take: a database that hangs is no reason to hang with it."""

_CIRCUIT_STATES: Final = (CircuitState.FRESH, CircuitState.ACTIVE, CircuitState.DRAINING)
"""A closed one is none of a level any more."""

_Read = Callable[[], Awaitable[None]]


class Gathering:
    """Sets the gauges of a backend to what is so now."""

    def __init__(
        self,
        services: ServiceManager,
        feed: Feed,
        lag: LoopLag,
        certificate_ends: Callable[[], datetime | None],
    ) -> None:
        """Read nothing yet.

        Args:
            services: whose figures, and into whose metrics.
            feed: of the events.
            lag: of the event loop.
            certificate_ends: when the certificate expires; None without TLS.
        """
        self._services: Final = services
        self._feed: Final = feed
        self._lag: Final = lag
        self._certificate_ends: Final = certificate_ends
        self._metrics: Final = services.metrics
        self._packets: Final = Followed(services.metrics.network.packets)
        self._parts: Final[Mapping[str, _Read]] = {
            "tasks": self._tasks,
            "workers": self._workers,
            "network": self._network,
            "circuits": self._circuits,
            "chat": self._chat,
            "store": self._store,
            "disk": self._disk,
        }
        self._troubles: Final[dict[str, str]] = {}

    async def gather(self) -> None:
        """Read every part, all at once."""
        await asyncio.gather(*(self._one(part, read) for part, read in self._parts.items()))
        metrics = self._metrics
        metrics.event_listeners.set(self._feed.listeners)
        metrics.event_loop_lag.set(self._lag.take())
        ends = self._certificate_ends()
        metrics.certificate_not_after.set(0 if ends is None else ends.timestamp())

    async def _one(self, part: str, read: _Read) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await read()
        except Exception as error:  # noqa: BLE001  # a fault of one part is no fault of the others
            self._metrics.refresh_failures.labels(part).inc()
            trouble = error.message if isinstance(error, FogError) else type(error).__name__
            if self._troubles.get(part) != trouble:
                self._troubles[part] = trouble
                _log.warning("metrics.unread", part=part, reason=trouble)
        else:
            self._troubles.pop(part, None)

    async def _tasks(self) -> None:
        tasks, metrics = self._services.get_service("store").tasks, self._metrics.tasks
        for state, count in (await tasks.count_by_state()).items():
            metrics.tasks.labels(state.value).set(count)
        oldest = await tasks.oldest_waiting()
        age = None if oldest is None else self._services.clock.now() - oldest
        metrics.oldest_queued.set(0 if age is None else max(0.0, age.total_seconds()))

    async def _workers(self) -> None:
        registry, gauge = self._services.get_service("workers"), self._metrics.tasks.workers
        for level in PrivacyLevel:
            for state, count in by_state(registry.at(level)).items():
                gauge.labels(level.value, state.value).set(count)

    async def _network(self) -> None:
        metrics = self._metrics.network
        listed = self._services.consensus()
        metrics.consensus_valid_until.set(0 if listed is None else listed.valid_until_ms / 1000)
        view = self._services.net_status
        metrics.edges.set(0 if view is None else view.edges_attached)
        for level in PrivacyLevel:
            metrics.paths.labels(level.value).set(view is not None and view.carries(level))
        if view is not None:
            metrics.epoch.set(view.epoch)
            for kind, count in view.nodes.items():
                metrics.nodes.labels(kind).set(count)

    async def _circuits(self) -> None:
        onion, metrics = self._services.get_service("onion_circuit"), self._metrics.circuits
        for level in PrivacyLevel:
            status = onion.status(level)
            for state in _CIRCUIT_STATES:
                metrics.circuits.labels(level.value, state.value).set(status.circuits.get(state, 0))
            if (health := status.health) is None:
                continue
            if health.round_trip_ms is not None:
                metrics.round_trip.labels(level.value).set(health.round_trip_ms / 1000)
            self._packets.now(health.tries - health.lost, level.value, "acknowledged")
            self._packets.now(health.lost, level.value, "lost")

    async def _chat(self) -> None:
        self._services.get_service("messaging").show_figures()

    async def _store(self) -> None:
        self._metrics.store.waiting.set(self._services.get_service("store").waiting)

    async def _disk(self) -> None:
        places = {"home": self._services.settings.home}
        places |= self._services.get_service("store").folders
        for place, free in (await in_thread(_free_below, places)).items():
            self._metrics.store.disk_free.labels(place).set(free)


def _free_below(places: Mapping[str, Path]) -> Mapping[str, int]:
    return {place: shutil.disk_usage(path).free for place, path in places.items()}
