"""How services, totals and the state of a backend look in the HTTP interface."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from fog_compute.levels import PrivacyLevel
from fog_compute.server.network_schemas import NetOut, WorkerOut
from fog_compute.server.parts import ServiceHealth, ServiceState
from fog_compute.server.schemas import Out
from fog_compute.tasks import TaskState


class ServiceOut(Out):
    """One service of the backend."""

    name: str
    state: ServiceState
    detail: str


class ServiceDetailOut(ServiceOut):
    """One service of the backend, and those that it needs."""

    needs: list[str]

    @classmethod
    def of(cls, health: ServiceHealth, needs: Sequence[str]) -> ServiceDetailOut:
        """Translate a record."""
        return cls(name=health.name, state=health.state, detail=health.detail, needs=list(needs))


class ServiceListOut(Out):
    """The services of the backend, in the order of their start."""

    services: list[ServiceDetailOut]


class RestartedOut(Out):
    """What was restarted."""

    restarted: list[str] = Field(description="The service, and those that need it.")


class LevelOut(Out):
    """Totals of one privacy level since the store was made."""

    submitted: int
    accepted: int
    failed: int
    cancelled: int
    attempts: int
    retries: int
    run_ms: int


class CircuitCountsOut(Out):
    """The circuits of one level in numbers."""

    circuits: int = Field(description="Circuits in use, without those that drain.")
    sessions: int
    in_flight: int


class DamagedOut(Out):
    """A row of the database that cannot be read, and is left out wherever rows are listed."""

    table: str
    key: str
    reason: str


class StatusOut(Out):
    """Everything at a glance."""

    version: str
    pid: int
    services: list[ServiceOut]
    net: NetOut | None
    workers: list[WorkerOut]
    tasks: dict[TaskState, int]
    levels: dict[PrivacyLevel, LevelOut]
    circuits: dict[PrivacyLevel, CircuitCountsOut] = Field(description="Of levels in use.")
    damaged: list[DamagedOut] = Field(description="Damaged rows that were met, up to 1000.")


class HealthOut(Out):
    """Whether the backend can do its work; strangers learn the status alone."""

    status: str
    version: str | None = None
    services: dict[str, ServiceState] | None = None
    reasons: list[str] | None = Field(
        None,
        description="One line for each service that does not run, and for what is away that nothing"
        " waits for; null to strangers.",
    )


class ReadyOut(Out):
    """Whether a task would be taken now."""

    ready: bool
    reasons: list[str] = Field(description="Why not, one line for each thing in the way.")
