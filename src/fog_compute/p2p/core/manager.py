"""The transports: each is started, listened to, and started again by a task of its own.

What one raises ends that one's turn and nothing else: it is shut down, said to be gone, and started
again after a pause that grows. One may come or go at any time.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final, TypeAlias

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock
from fog_compute.errors import ConfigError, FogError, NotFound
from fog_compute.observability import get_logger
from fog_compute.p2p.core.actions import OutcomeTold, TransportChanged
from fog_compute.p2p.core.background import background
from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.core.transport import (
    EVERYBODY,
    Arrival,
    CapabilitiesChanged,
    Outcome,
    OutcomeState,
    PartLeft,
    Reachability,
    TransportCapabilities,
    TransportInterface,
    TransportType,
    TransportUnavailable,
)
from fog_compute.text import one_line

__all__ = ["ManagerEvent", "TransportHealth", "TransportManager", "TransportPhase"]

_log = get_logger("fog_compute.p2p")

PAUSES: Final = Backoff(1.0, 60.0, jitter=0.2)
"""Before a transport is started again."""

STEADY_S: Final = 60.0
"""A transport that ran for so long failed for another reason than before."""

WAITING: Final = 256
"""Events that were not taken; whoever brings more waits."""

ManagerEvent: TypeAlias = Arrival | OutcomeTold | PartLeft | Reachability | TransportChanged


class TransportPhase(enum.StrEnum):
    """What a transport is doing."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"  # for its next try


@dataclass(frozen=True, slots=True)
class TransportHealth:
    """How a transport is.

    Attributes:
        phase: what it is doing.
        reason: why it is not running, or cannot be used though it is; "" if neither.
        failures: starts in a row after which it did not last.
    """

    phase: TransportPhase = TransportPhase.STOPPED
    reason: str = ""
    failures: int = 0


class TransportManager:
    """All transports of one person. `next_event` is what they tell, in one order."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        """Begin with none; ``rng`` spreads the pauses."""
        self._clock: Final = clock
        self._rng: Final = rng
        self._transports: Final[dict[TransportType, TransportInterface]] = {}
        self._tasks: Final[dict[TransportType, asyncio.Task[None]]] = {}
        self._health: Final[dict[TransportType, TransportHealth]] = {}
        self._events: Final[asyncio.Queue[ManagerEvent]] = asyncio.Queue(WAITING)
        self._running = False

    def register_transport(self, kind: TransportType, transport: TransportInterface) -> None:
        """Take a transport in; it is started at once where the others run.

        Raises:
            ConfigError: there is one of this kind, or it is of another kind.
        """
        if kind in self._transports:
            raise ConfigError(f"there is a transport {kind.value} already: unregister it first")
        if transport.type is not kind:
            raise ConfigError(f"this transport is {transport.type.value}, and not {kind.value}")
        self._transports[kind] = transport
        self._health[kind] = TransportHealth()
        if self._running:
            self._begin(kind)

    async def unregister_transport(self, kind: TransportType) -> None:
        """Stop a transport and forget it.

        Raises:
            NotFound: there is none.
        """
        self.get_transport(kind)
        await self._end(kind)
        await self._events.put(TransportChanged(kind, None))
        del self._transports[kind], self._health[kind]

    def get_transport(self, kind: TransportType) -> TransportInterface:
        """The transport of a kind.

        Raises:
            NotFound: there is none.
        """
        transport = self._transports.get(kind)
        if transport is None:
            raise NotFound(f"there is no transport {kind.value} here")
        return transport

    async def start(self) -> None:
        """Start all; one that cannot start now is tried again by itself."""
        self._running = True
        for kind in self._transports:
            self._begin(kind)

    async def stop(self) -> None:
        """Stop all; safe to call again."""
        self._running = False
        await asyncio.gather(*(self._end(kind) for kind in list(self._tasks)))

    async def restart(self, kind: TransportType) -> None:
        """Stop a transport, and start it at once.

        Raises:
            NotFound: there is none.
        """
        self.get_transport(kind)
        await self._end(kind)
        await self._events.put(TransportChanged(kind, None))
        if self._running:
            self._begin(kind)

    def health(self) -> dict[TransportType, TransportHealth]:
        """How each transport is."""
        found = {}
        for kind, health in self._health.items():
            why = self.capabilities(kind).unavailable_because
            running = health.phase is TransportPhase.RUNNING
            found[kind] = replace(health, reason=why) if running and why else health
        return found

    def capabilities(self, kind: TransportType) -> TransportCapabilities:
        """What a transport can do now; one that does not run says why.

        Raises:
            NotFound: there is none.
        """
        transport = self.get_transport(kind)
        try:
            can = transport.get_capabilities()
        except Exception as error:  # noqa: BLE001 - a transport takes no other down
            self._failed(kind, "get_capabilities", error)
            why = f"it cannot say what it can do ({type(error).__name__})"
            return TransportCapabilities(False, 0, False, False, "high", unavailable_because=why)
        health = self._health[kind]
        if health.phase is TransportPhase.STARTING and not health.failures:
            return replace(can, unavailable_because="it is starting")
        if health.phase is not TransportPhase.RUNNING and can.available:
            return replace(can, unavailable_because=health.reason or f"it is {health.phase.value}")
        return can

    async def next_event(self) -> ManagerEvent:
        """Wait for what any of them tells next."""
        return await self._events.get()

    async def send(
        self, kind: TransportType, message: DecentralizedMessage, destination: str, attempt: int
    ) -> Outcome:
        """Have a transport send to one person; whatever it raises is a failure."""
        return await self._ask(
            kind, message, destination, lambda one: one.send(message, destination, attempt=attempt)
        )

    async def broadcast(self, kind: TransportType, message: DecentralizedMessage) -> Outcome:
        """Have a transport send to all who are near; whatever it raises is a failure."""

        async def ask(transport: TransportInterface) -> Outcome:
            await transport.broadcast(message)
            return Outcome(message.id, EVERYBODY, OutcomeState.ACCEPTED)

        return await self._ask(kind, message, EVERYBODY, ask)

    async def confirm(self, arrival: Arrival) -> None:
        """Tell a transport that an arrival is kept; where that fails, it comes again."""
        transport = self._transports.get(arrival.transport)
        if transport is None:
            return
        try:
            await transport.confirm(arrival)
        except Exception as error:  # noqa: BLE001 - a transport takes no other down
            self._failed(arrival.transport, "confirm", error)

    async def _ask(
        self,
        kind: TransportType,
        message: DecentralizedMessage,
        receiver: str,
        ask: Callable[[TransportInterface], Awaitable[Outcome]],
    ) -> Outcome:
        def failed(why: str) -> Outcome:
            return Outcome(message.id, receiver, OutcomeState.FAILED, why)

        transport = self._transports.get(kind)
        if transport is None or self._health[kind].phase is not TransportPhase.RUNNING:
            return failed("the transport does not run")
        try:
            return await ask(transport)
        except FogError as error:
            return failed(one_line(str(error)))
        except Exception as error:  # noqa: BLE001 - a transport takes no other down
            self._failed(kind, "send", error)
            return failed(f"a fault: {type(error).__name__}")

    def _begin(self, kind: TransportType) -> None:
        if kind not in self._tasks:
            name = f"transport-{kind.value}"
            self._health[kind] = TransportHealth(TransportPhase.STARTING)
            self._tasks[kind] = background(self._keep_running(kind), name)

    async def _end(self, kind: TransportType) -> None:
        task = self._tasks.pop(kind, None)
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})  # whoever is cancelled meanwhile is, and the shutdown goes on
        self._health[kind] = TransportHealth()

    async def _keep_running(self, kind: TransportType) -> None:
        """Start a transport, pass on what it tells, and again, until cancelled."""
        transport = self._transports[kind]
        failures = 0
        while True:
            began = self._clock.monotonic()
            self._health[kind] = TransportHealth(TransportPhase.STARTING, "", failures)
            try:
                why = await self._run(kind, transport)
            finally:
                await self._shut_down(kind, transport)
            if self._clock.monotonic() - began >= STEADY_S:
                failures = 0
            self._health[kind] = TransportHealth(TransportPhase.WAITING, why, failures + 1)
            await self._events.put(TransportChanged(kind, None))
            await self._clock.sleep(PAUSES.after(failures, self._rng.random))
            failures += 1

    async def _run(self, kind: TransportType, transport: TransportInterface) -> str:
        """Run a transport until it cannot any more; return why."""
        try:
            await transport.initialize()
            self._health[kind] = replace(self._health[kind], phase=TransportPhase.RUNNING)
            await self._events.put(TransportChanged(kind, self.capabilities(kind)))
            while True:
                event = await transport.receive()
                match event:
                    case CapabilitiesChanged():
                        await self._events.put(TransportChanged(kind, self.capabilities(kind)))
                    case Outcome():
                        await self._events.put(OutcomeTold(kind, event))
                    case _:
                        await self._events.put(event)
        except TransportUnavailable as error:
            return one_line(str(error))
        except Exception as error:  # noqa: BLE001 - a transport takes no other down
            self._failed(kind, "run", error)
            return f"a fault: {type(error).__name__}"  # its text may hold what a stranger sent

    async def _shut_down(self, kind: TransportType, transport: TransportInterface) -> None:
        try:
            await transport.shutdown()
        except Exception as error:  # noqa: BLE001 - a transport takes no other down
            self._failed(kind, "shutdown", error)

    def _failed(self, kind: TransportType, what: str, error: Exception) -> None:
        # Its text may name a person or an address.
        _log.error("transport.failed", transport=kind.value, what=what, error=type(error).__name__)
