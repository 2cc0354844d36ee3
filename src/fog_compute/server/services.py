"""The services of the backend: started in order, watched, and stopped in reverse order."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self, TypeAlias, overload

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock, SystemClock
from fog_compute.config import Settings
from fog_compute.coordinator.admission import Admission
from fog_compute.coordinator.fog import FogCoordinator
from fog_compute.coordinator.membership import MemberDirectory
from fog_compute.coordinator.registry import WorkerRegistry
from fog_compute.coordinator.routes import FogOnionCoordinator
from fog_compute.coordinator.sessions import Tempo
from fog_compute.errors import FogError, NotFound, ServiceUnavailable
from fog_compute.observability import get_logger
from fog_compute.observability.metrics import Metrics
from fog_compute.store import Store
from fog_compute.tasks.keyring import KeyringFile
from fog_compute.vpn.betanet import BetanetService
from fog_compute.vpn.directory import WorkerDirectory
from fog_compute.vpn.network import NetworkStatus
from fog_compute.vpn.onion import ChannelSource, OnionCircuitService
from fog_compute.vpn.sessions import SessionManager

__all__ = ["Network", "ServiceHealth", "ServiceManager", "ServiceState"]

_log = get_logger("fog_compute.server")

PROBE: Final = Backoff(0.25, 15)
PROBE_OK_S: Final = 2.0


class Network(ChannelSource, WorkerDirectory, Protocol):
    """What the backend needs of a network; ``BetanetService`` is one."""

    async def status(self) -> NetworkStatus:
        """The network as this machine sees it."""
        ...

    async def close(self) -> None:
        """Leave the network."""
        ...


class ServiceState(enum.StrEnum):
    """Where a service stands."""

    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """One service's state, and one line about it if it does not run."""

    name: str
    state: ServiceState
    detail: str = ""


Name: TypeAlias = Literal[
    "store", "betanet", "onion_circuit", "sessions", "workers", "coordinator", "onion_coordinator"
]
Service: TypeAlias = (
    Store
    | Network
    | OnionCircuitService
    | SessionManager
    | WorkerRegistry
    | FogCoordinator
    | FogOnionCoordinator
)

_Work: TypeAlias = Coroutine[object, object, None]

_ORDER: Final[tuple[Name, ...]] = (
    "store",
    "betanet",
    "onion_circuit",
    "sessions",
    "workers",
    "coordinator",
    "onion_coordinator",
)


class ServiceManager:
    """Starts, watches and stops everything behind the HTTP interface.

    The store must open, or nothing starts. The network may come later, or go: as long as no edge
    answers, ``betanet`` is ``starting`` with the reason, and tasks wait.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        network: Network | None = None,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
        on_crash: Callable[[], None] | None = None,
    ) -> None:
        """Start nothing yet; ``on_crash`` is called when a service ends that never should."""
        self._settings: Final = settings
        self._network = network
        self._clock: Final = SystemClock() if clock is None else clock
        self.metrics: Final = Metrics() if metrics is None else metrics
        self.admission: Final = Admission()
        self._on_crash: Final = on_crash
        self._services: Final[dict[Name, Service]] = {}
        self._health: Final[dict[Name, ServiceHealth]] = {
            name: ServiceHealth(name, ServiceState.STOPPED, "not started yet") for name in _ORDER
        }
        self._stack: Final = AsyncExitStack()
        self._net_status: NetworkStatus | None = None
        self._stop: Final = asyncio.Event()

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    @property
    def clock(self) -> Clock:
        """The clock of all services."""
        return self._clock

    @property
    def net_status(self) -> NetworkStatus | None:
        """The network as it was last seen; None before it was joined."""
        return self._net_status

    async def start(self) -> None:
        """Start all services; if one that must start cannot, stop the others again.

        Raises:
            FogError: a service that must start could not; the text says which and why.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings = self._settings
        settings.layout.daemon.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = await Store.open(
            settings.database, clock=self._clock, result_ttl_s=settings.result_ttl_s
        )
        self._stack.push_async_callback(store.close)
        self._up("store", store)

        network = self._network
        if network is None:
            network = BetanetService(folder=settings.layout.clients, bootstrap=settings.bootstrap)
        self._stack.push_async_callback(network.close)
        self._services["betanet"] = network
        self._set("betanet", ServiceState.STARTING, "joining the network")
        self._background(self._watch_network(network), "betanet")

        onion = OnionCircuitService(network, clock=self._clock)
        self._up("onion_circuit", onion)
        self._background(onion.run(), "onion_circuit")
        sessions = SessionManager(onion, clock=self._clock)
        self._up("sessions", sessions)
        self._background(sessions.run(), "sessions")
        groups = KeyringFile(settings.layout.groups_file)
        groups.load_or_make()
        workers = WorkerRegistry(
            MemberDirectory(network, groups.current),
            clock=self._clock,
            strategy=settings.strategy,
            near=frozenset(filter(None, settings.near.split(","))),
        )
        self._up("workers", workers)
        coordinator = FogCoordinator(
            store=store,
            workers=workers,
            carrier=onion,
            keys=groups.current,
            tempo=Tempo(
                lease_s=settings.lease_s,
                request_timeout_s=settings.request_timeout_s,
                poll_min_s=settings.poll_min_s,
                poll_max_s=settings.poll_max_s,
                worker_refresh_s=settings.worker_refresh_s,
            ),
            clock=self._clock,
            metrics=self.metrics,
        )
        self._up("coordinator", coordinator)
        self._background(coordinator.run(), "coordinator")
        self._up("onion_coordinator", FogOnionCoordinator(coordinator))

    @property
    def stopping(self) -> bool:
        """Whether the end has begun; the services still run."""
        return self._stop.is_set()

    def begin_stop(self) -> None:
        """Let nobody wait any longer for what may come; the services still run."""
        self._stop.set()

    async def unless_stopping(self, waiting: Coroutine[object, object, object]) -> None:
        """Wait for something that may take long, or until the end begins."""
        waits = {asyncio.create_task(waiting), asyncio.create_task(self._stop.wait())}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def stop(self) -> None:
        """Stop all services, last started first; safe to call again."""
        await self._stack.aclose()
        for name in _ORDER:
            self._services.pop(name, None)
            if self._health[name].state is not ServiceState.FAILED:
                self._set(name, ServiceState.STOPPED, "stopped")

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop."""
        await self.stop()

    @overload
    def get_service(self, name: Literal["store"]) -> Store: ...
    @overload
    def get_service(self, name: Literal["betanet"]) -> Network: ...
    @overload
    def get_service(self, name: Literal["onion_circuit"]) -> OnionCircuitService: ...
    @overload
    def get_service(self, name: Literal["sessions"]) -> SessionManager: ...
    @overload
    def get_service(self, name: Literal["workers"]) -> WorkerRegistry: ...
    @overload
    def get_service(self, name: Literal["coordinator"]) -> FogCoordinator: ...
    @overload
    def get_service(self, name: Literal["onion_coordinator"]) -> FogOnionCoordinator: ...
    def get_service(self, name: Name) -> Service:
        """Return a service that runs.

        Raises:
            NotFound: there is no service of that name.
            ServiceUnavailable: it does not run; the text says why.
        """
        health = self._health.get(name)
        if health is None:
            raise NotFound(f"there is no service {name!r}: choose one of {', '.join(_ORDER)}")
        if health.state is not ServiceState.RUNNING:
            raise ServiceUnavailable(f"the service {name} is {health.state}: {health.detail}")
        return self._services[name]

    def health(self) -> tuple[ServiceHealth, ...]:
        """All services in the order of their start."""
        return tuple(self._health[name] for name in _ORDER)

    @property
    def healthy(self) -> bool:
        """Whether every service runs."""
        return all(entry.state is ServiceState.RUNNING for entry in self._health.values())

    async def _watch_network(self, network: Network) -> None:
        """Join the network, again and again until it works, and keep its view fresh."""
        failures = 0
        while True:
            try:
                await self._refresh_network(network)
            except FogError as error:
                self._set("betanet", ServiceState.STARTING, str(error))
                pause = PROBE.after(failures)
                failures += 1
            else:
                pause, failures = PROBE_OK_S, 0
            await self._clock.sleep(pause)

    async def _refresh_network(self, network: Network) -> None:
        self._net_status = await network.status()
        if not self._net_status.edges_attached:
            raise ServiceUnavailable(self._net_status.trouble or "no edge answers")
        if self._health["betanet"].state is not ServiceState.RUNNING:
            _log.info("network.joined", nodes=self._net_status.node_count)
        self._set("betanet", ServiceState.RUNNING)

    def _up(self, name: Name, service: Service) -> None:
        self._services[name] = service
        self._set(name, ServiceState.RUNNING)

    def _set(self, name: Name, state: ServiceState, detail: str = "") -> None:
        self._health[name] = ServiceHealth(name, state, detail)
        self.metrics.service_up.labels(name).set(state is ServiceState.RUNNING)

    def _background(self, work: _Work, name: Name) -> None:
        task = asyncio.create_task(work, name=f"service-{name}")
        task.add_done_callback(lambda done: self._ended(done, name))

        async def cancel() -> None:
            task.cancel()
            await asyncio.wait({task})

        self._stack.push_async_callback(cancel)

    def _ended(self, task: asyncio.Task[None], name: Name) -> None:
        if task.cancelled():
            return
        error = task.exception()
        _log.error("service.crashed", service=name, exc_info=error)
        self._set(name, ServiceState.FAILED, f"it crashed: {type(error).__name__}")
        if self._on_crash is not None:
            self._on_crash()
