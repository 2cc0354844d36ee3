"""The services of a backend by name: what each needs, and so in which order they start."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, overload

from fog_compute.coordinator.fog import FogCoordinator
from fog_compute.coordinator.registry import WorkerRegistry
from fog_compute.coordinator.routes import FogOnionCoordinator
from fog_compute.p2p.htx.mixnet import MixnetService
from fog_compute.server.messaging import Messaging
from fog_compute.store import Store
from fog_compute.vpn.directory import WorkerDirectory
from fog_compute.vpn.network import NetworkStatus
from fog_compute.vpn.onion import ChannelSource, OnionCircuitService
from fog_compute.vpn.sessions import SessionManager

if TYPE_CHECKING:
    import betanet

__all__ = [
    "NEEDS",
    "ORDER",
    "Getter",
    "Name",
    "Network",
    "Service",
    "ServiceHealth",
    "ServiceState",
    "dependants",
]

Name: TypeAlias = Literal[
    "store",
    "betanet",
    "onion_circuit",
    "sessions",
    "workers",
    "fog_coordinator",
    "fog_onion_coordinator",
    "messaging",
]

NEEDS: Final[Mapping[Name, tuple[Name, ...]]] = {
    "store": (),
    "betanet": (),
    "onion_circuit": ("store", "betanet"),
    "sessions": ("store", "onion_circuit"),
    "workers": ("betanet",),
    "fog_coordinator": ("store", "onion_circuit", "workers"),
    "fog_onion_coordinator": ("fog_coordinator",),
    "messaging": ("store", "betanet"),
}
"""What each service holds on to; one that is needed stands before those that need it."""

ORDER: Final[tuple[Name, ...]] = tuple(NEEDS)
"""All services, in the order of their start."""


def dependants(name: Name) -> tuple[Name, ...]:
    """A service and all that need it, directly or not, in the order of their start."""
    found: set[Name] = {name}
    for each in ORDER:
        if found.intersection(NEEDS[each]):
            found.add(each)
    return tuple(each for each in ORDER if each in found)


class Network(ChannelSource, WorkerDirectory, MixnetService, Protocol):
    """What the backend needs of a network; ``BetanetService`` is one."""

    async def status(self) -> NetworkStatus:
        """The network as this machine sees it."""
        ...

    def consensus(self) -> betanet.Consensus | None:
        """The signed list of the nodes that this machine goes by; None before it has one."""
        ...

    async def close(self) -> None:
        """Leave the network."""
        ...


Service: TypeAlias = (
    Store
    | Network
    | OnionCircuitService
    | SessionManager
    | WorkerRegistry
    | FogCoordinator
    | FogOnionCoordinator
    | Messaging
)


class Getter(Protocol):
    """Returns a service by its name, typed."""

    @overload
    def __call__(self, name: Literal["store"], /) -> Store: ...
    @overload
    def __call__(self, name: Literal["betanet"], /) -> Network: ...
    @overload
    def __call__(self, name: Literal["onion_circuit"], /) -> OnionCircuitService: ...
    @overload
    def __call__(self, name: Literal["sessions"], /) -> SessionManager: ...
    @overload
    def __call__(self, name: Literal["workers"], /) -> WorkerRegistry: ...
    @overload
    def __call__(self, name: Literal["fog_coordinator"], /) -> FogCoordinator: ...
    @overload
    def __call__(self, name: Literal["fog_onion_coordinator"], /) -> FogOnionCoordinator: ...
    @overload
    def __call__(self, name: Literal["messaging"], /) -> Messaging: ...


class ServiceState(enum.StrEnum):
    """Where a service stands."""

    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """One service's state, and one line about it if it does not run."""

    name: Name
    state: ServiceState
    detail: str = ""
