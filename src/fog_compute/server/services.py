"""The services of the backend: started in order, watched, and stopped in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self, TypeAlias, cast

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
from fog_compute.levels import PrivacyLevel
from fog_compute.observability import get_logger
from fog_compute.observability.metrics import BackendMetrics
from fog_compute.p2p.unified import UnifiedDecentralizedSystem, UnifiedP2PConfig
from fog_compute.server.home import name_of_home
from fog_compute.server.messaging import Messaging
from fog_compute.server.parts import (
    ORDER,
    Getter,
    Name,
    Network,
    Service,
    ServiceHealth,
    ServiceState,
    dependants,
)
from fog_compute.store import Store
from fog_compute.tasks.keyring import KeyringFile
from fog_compute.text import counted
from fog_compute.vpn.betanet import BetanetService
from fog_compute.vpn.clients import MESSAGES, edges_of
from fog_compute.vpn.network import NetworkStatus
from fog_compute.vpn.onion import OnionCircuitService
from fog_compute.vpn.sessions import SessionManager
from fog_compute.vpn.totals import TotalsKeeper

if TYPE_CHECKING:
    import betanet

__all__ = ["ServiceManager", "get_service"]

_log = get_logger("fog_compute.server")

PROBE: Final = Backoff(0.25, 15)
PROBE_OK_S: Final = 2.0

_Start: TypeAlias = Callable[[AsyncExitStack], Awaitable[Service]]
_Work: TypeAlias = Coroutine[object, object, None]

_started: Final[list[Callable[[str], Service]]] = []
"""What gets services of the managers of this process that have started, the newest last."""


class ServiceManager:
    """Starts, watches, restarts and stops everything behind the HTTP interface.

    The store must open, or nothing starts. The network may come later, or go: as long as no edge
    answers, ``betanet`` is ``starting`` with the reason, and tasks wait.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        network: Network | None = None,
        clock: Clock | None = None,
        metrics: BackendMetrics | None = None,
        on_crash: Callable[[], None] | None = None,
    ) -> None:
        """Start nothing yet; ``on_crash`` is called when a service ends that never should."""
        self._settings: Final = settings
        self._network: Final = network
        self._clock: Final = SystemClock() if clock is None else clock
        self.metrics: Final = BackendMetrics() if metrics is None else metrics
        self.admission: Final = Admission()
        self._on_crash: Final = on_crash
        self._starts: Final[Mapping[Name, _Start]] = {
            "store": self._start_store,
            "betanet": self._start_betanet,
            "onion_circuit": self._start_onion_circuit,
            "sessions": self._start_sessions,
            "workers": self._start_workers,
            "fog_coordinator": self._start_fog_coordinator,
            "fog_onion_coordinator": self._start_fog_onion_coordinator,
            "messaging": self._start_messaging,
        }
        self._services: Final[dict[Name, Service]] = {}
        self._held: Final = cast("Getter", self._services.__getitem__)
        self.get_service: Final = cast("Getter", self._get_service)
        self._ends: Final[dict[Name, AsyncExitStack]] = {}
        self._health: Final[dict[Name, ServiceHealth]] = {
            name: ServiceHealth(name, ServiceState.STOPPED, "not started yet") for name in ORDER
        }
        self._turn: Final = asyncio.Lock()  # of who starts and stops services
        self._net_status: NetworkStatus | None = None
        self._stop: Final = asyncio.Event()
        self._changed = asyncio.Event()  # a health; each serves once

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

    def consensus(self) -> betanet.Consensus | None:
        """The nodes that this machine goes by, also while it cannot reach them; None before."""
        network = self._services.get("betanet")
        return None if network is None else cast("Network", network).consensus()

    async def start(self) -> None:
        """Start all services; if one that must start cannot, stop the others again.

        Raises:
            FogError: a service that must start could not; the text says which and why.
        """
        try:
            self._settings.layout.daemon.mkdir(mode=0o700, parents=True, exist_ok=True)
            async with self._turn:
                for name in ORDER:
                    await self._begin(name)
        except BaseException:
            await self.stop()
            raise
        _started.append(self._get_service)

    async def restart(self, name: str) -> tuple[Name, ...]:
        """Stop a service and all that need it, and start them again; return which they are.

        What they had begun is found again in the store. Cancelled: some of them do not run, and
        say so; restart again.

        Raises:
            NotFound: there is no service of that name.
            FogError: one could not start; it and those that need it do not run.
        """
        known = self._known(name)
        names = dependants(known)
        async with self._turn:
            if self._stop.is_set():
                raise ServiceUnavailable("the backend is stopping")
            _log.info("service.restarting", part=known)
            for each in reversed(names):
                await self._end(each, f"{known} is being restarted")
            for each in names:
                await self._begin(each)
        return names

    async def _begin(self, name: Name) -> None:
        self._set(name, ServiceState.STARTING, "it starts")
        async with AsyncExitStack() as stack:
            try:
                self._services[name] = await self._starts[name](stack)
            except BaseException as error:
                text = error.message if isinstance(error, FogError) else type(error).__name__
                self._set(name, ServiceState.FAILED, f"it could not start: {text}")
                raise
            self._ends[name] = stack.pop_all()
        if name != "betanet":  # which runs once an edge answers
            self._set(name, ServiceState.RUNNING)

    async def _end(self, name: Name, detail: str) -> None:
        self._services.pop(name, None)
        # One that could not start keeps its reason, and one that crashed too.
        if self._health[name].state is not ServiceState.FAILED:
            self._set(name, ServiceState.STOPPED, detail)
        if (end := self._ends.pop(name, None)) is not None:
            await end.aclose()

    async def _start_store(self, stack: AsyncExitStack) -> Store:
        settings = self._settings
        redis_url = settings.redis_url
        store = await Store.open(
            settings.database,
            blobs=settings.blobs,
            clock=self._clock,
            blob_bytes=settings.blob_bytes,
            result_ttl_s=settings.result_ttl_s,
            home=name_of_home(settings.layout.backend_file),
            redis_url=None if redis_url is None else redis_url.get_secret_value(),
            metrics=self.metrics.store,
        )
        stack.push_async_callback(store.close)
        return store

    async def _start_betanet(self, stack: AsyncExitStack) -> Network:
        settings = self._settings
        network = self._network
        if network is None:
            network = BetanetService(
                folder=settings.layout.clients,
                bootstrap=settings.bootstrap,
                on_end=lambda end: self.metrics.network.messages.labels(end.value).inc(),
            )
        stack.push_async_callback(network.close)
        self._net_status = None
        edges = edges_of(settings.bootstrap)
        by = f" by its edges {edges}" if edges else ""
        since = f"{self._clock.now():%H:%M:%S} UTC"
        self._set("betanet", ServiceState.STARTING, f"joining the network{by}, since {since}")
        self._background(stack, self._watch_network(network, since), "betanet")
        return network

    async def _start_onion_circuit(self, stack: AsyncExitStack) -> OnionCircuitService:
        onion = OnionCircuitService(
            self._held("betanet"), clock=self._clock, metrics=self.metrics.circuits
        )
        totals = TotalsKeeper(onion, self._held("store").circuit_totals, self._clock)
        await totals.restore()
        stack.push_async_callback(totals.keep)
        self._background(stack, totals.run(), "onion_circuit")
        self._background(stack, onion.run(), "onion_circuit")
        return onion

    async def _start_sessions(self, stack: AsyncExitStack) -> SessionManager:
        sessions = SessionManager(
            self._held("onion_circuit"), clock=self._clock, book=self._held("store").sessions
        )
        await sessions.restore()
        stack.push_async_callback(sessions.settle)
        self._background(stack, sessions.run(), "sessions")
        return sessions

    async def _start_workers(self, _: AsyncExitStack) -> WorkerRegistry:
        return WorkerRegistry(
            MemberDirectory(self._held("betanet"), self._groups().current),
            clock=self._clock,
            strategy=self._settings.strategy,
            near=frozenset(filter(None, self._settings.near.split(","))),
            metrics=self.metrics.tasks,
        )

    async def _start_fog_coordinator(self, stack: AsyncExitStack) -> FogCoordinator:
        settings = self._settings
        coordinator = FogCoordinator(
            store=self._held("store"),
            workers=self._held("workers"),
            carrier=self._held("onion_circuit"),
            keys=self._groups().current,
            tempo=Tempo(
                lease_s=settings.lease_s,
                request_timeout_s=settings.request_timeout_s,
                poll_min_s=settings.poll_min_s,
                poll_max_s=settings.poll_max_s,
                worker_refresh_s=settings.worker_refresh_s,
                owner_lease_s=settings.owner_lease_s,
            ),
            clock=self._clock,
            metrics=self.metrics.tasks,
        )
        self._background(stack, coordinator.run(), "fog_coordinator")
        return coordinator

    async def _start_fog_onion_coordinator(self, _: AsyncExitStack) -> FogOnionCoordinator:
        return FogOnionCoordinator(self._held("fog_coordinator"))

    async def _start_messaging(self, stack: AsyncExitStack) -> Messaging:
        settings, network, store = self._settings, self._held("betanet"), self._held("store")

        def make(config: UnifiedP2PConfig) -> UnifiedDecentralizedSystem:
            return UnifiedDecentralizedSystem(network, config, store=store, clock=self._clock)

        async def forget_client() -> None:
            for level in PrivacyLevel:
                await network.leave(level, MESSAGES)

        messaging = Messaging(
            UnifiedP2PConfig(
                identity_file=settings.layout.identity_file,
                card_file=settings.layout.card_file,
                name=settings.chat_name,
                level=settings.chat_level,
                ble=settings.chat_ble,
                adapter=settings.chat_adapter,
                mail_file=settings.layout.mail_file,
                islands=tuple(filter(None, settings.chat_islands.split(","))),
            ),
            make,
            forget_client,
            self._clock,
            self.metrics.chat,
        )
        stack.push_async_callback(messaging.close)
        await messaging.wake()
        return messaging

    def _groups(self) -> KeyringFile:
        groups = KeyringFile(self._settings.layout.groups_file)
        groups.load_or_make()
        return groups

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
        if self._get_service in _started:
            _started.remove(self._get_service)
        self._stop.set()
        async with self._turn:
            for name in reversed(ORDER):
                await self._end(name, "stopped")

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop."""
        await self.stop()

    def _get_service(self, name: str) -> Service:
        """Return a service that runs.

        Raises:
            NotFound: there is no service of that name.
            ServiceUnavailable: it does not run; the text says why.
        """
        known = self._known(name)
        health = self._health[known]
        if health.state is not ServiceState.RUNNING:
            raise ServiceUnavailable(f"the service {known} is {health.state}: {health.detail}")
        return self._services[known]

    def _known(self, name: str) -> Name:
        for known in ORDER:
            if known == name:
                return known
        raise NotFound(f"there is no service {name!r}: choose one of {', '.join(ORDER)}")

    def health(self) -> tuple[ServiceHealth, ...]:
        """All services in the order of their start."""
        return tuple(self._health[name] for name in ORDER)

    @property
    def healthy(self) -> bool:
        """Whether every service runs."""
        return all(entry.state is ServiceState.RUNNING for entry in self._health.values())

    def troubles(self) -> tuple[str, ...]:
        """What is away that nothing has to wait for, one line for each thing."""
        store = self._services.get("store")
        echo = store.echo if isinstance(store, Store) else None
        return echo.troubles if echo is not None else ()

    async def until_healthy(self) -> None:
        """Wait until every service runs, for as long as it takes; cancel it to wait no longer."""
        while not self.healthy:
            await self._changed.wait()

    async def _watch_network(self, network: Network, since: str) -> None:
        """Join the network, again and again until it works, and keep its view fresh."""
        failures = 0
        while True:
            try:
                await self._refresh_network(network)
            except FogError as error:
                pause = PROBE.after(failures)
                failures += 1
                tried = f"tried {counted(failures, 'time')} since {since}"
                self._set("betanet", ServiceState.STARTING, f"{error} ({tried})")
            else:
                pause, failures = PROBE_OK_S, 0
                since = f"{self._clock.now():%H:%M:%S} UTC"
            await self._clock.sleep(pause)

    async def _refresh_network(self, network: Network) -> None:
        self._net_status = await network.status()
        if not self._net_status.edges_attached:
            raise ServiceUnavailable(self._net_status.trouble or "no edge answers")
        if self._health["betanet"].state is not ServiceState.RUNNING:
            _log.info("network.joined", nodes=self._net_status.node_count)
        self._set("betanet", ServiceState.RUNNING)

    def _set(self, name: Name, state: ServiceState, detail: str = "") -> None:
        self._health[name] = ServiceHealth(name, state, detail)
        self._changed.set()
        self._changed = asyncio.Event()
        self.metrics.service_up.labels(name).set(state is ServiceState.RUNNING)

    def _background(self, stack: AsyncExitStack, work: _Work, name: Name) -> None:
        task = asyncio.create_task(work, name=f"service-{name}")
        task.add_done_callback(lambda done: self._ended(done, name))

        async def cancel() -> None:
            task.cancel()
            await asyncio.wait({task})

        stack.push_async_callback(cancel)

    def _ended(self, task: asyncio.Task[None], name: Name) -> None:
        if task.cancelled():
            return
        error = task.exception()
        _log.error("service.crashed", part=name, exc_info=error)
        self._set(name, ServiceState.FAILED, f"it crashed: {type(error).__name__}")
        if self._on_crash is not None:
            self._on_crash()


def _get_service(name: str) -> Service:
    if not _started:
        raise ServiceUnavailable(
            "no services run in this process: `async with ServiceManager(load_settings()):` first"
        )
    return _started[-1](name)


get_service: Final = cast("Getter", _get_service)
"""Return a service of the manager that runs in this process, as `ServiceManager.get_service`."""
