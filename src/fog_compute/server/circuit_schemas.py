"""How circuits and sessions look in the HTTP interface."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from pydantic import ConfigDict, Field

from fog_compute.levels import PrivacyLevel
from fog_compute.server.network_schemas import ExcludedNodeOut
from fog_compute.server.schemas import In, Out
from fog_compute.vpn.circuits import CircuitState, CircuitStatus
from fog_compute.vpn.network import ClientHealth
from fog_compute.vpn.onion import LevelStatus
from fog_compute.vpn.session_records import SessionStatus

__all__ = [
    "CircuitOut",
    "ClientOut",
    "LevelCircuitsOut",
    "LevelDetailOut",
    "LevelListOut",
    "SessionIn",
    "SessionListOut",
    "SessionOpenedOut",
    "SessionOut",
]


class EdgeOut(Out):
    """An edge with mailboxes of a client."""

    id: str
    current: bool = Field(description="Whether the client's address names it.")
    attached: bool
    reason: str | None = Field(description="Why there is no link to it, as far as is known.")


class ClientOut(Out):
    """How the packets of a level's client fare, by its own loops and acknowledgements."""

    tries: int
    lost: int
    round_trip_ms: int | None
    loop_ms: int | None
    trouble: str | None
    edges: list[EdgeOut]
    excluded: list[ExcludedNodeOut]

    @classmethod
    def of(cls, health: ClientHealth) -> ClientOut:
        """Translate a record."""
        return cls.model_validate(dataclasses.asdict(health))


class CircuitOut(Out):
    """One circuit."""

    id: str
    state: CircuitState
    age_s: float
    idle_s: float
    in_flight: int
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    surbs_sent: int

    @classmethod
    def of(cls, circuit: CircuitStatus) -> CircuitOut:
        """Translate a record."""
        return cls.model_validate(dataclasses.asdict(circuit))


class LevelCircuitsOut(Out):
    """The circuits of one level together."""

    level: PrivacyLevel
    hops: int
    sessions: int
    by_token: int = Field(description="Sessions among them that were opened with a token.")
    circuits: dict[CircuitState, int] = Field(description="How many there are now, by state.")
    in_flight: int
    made: int = Field(description="Circuits that were made since the backend began.")
    rotations: int
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    surbs_sent: int
    client: ClientOut | None = Field(description="Null while the level is not in use.")

    @classmethod
    def of(cls, status: LevelStatus, by_token: int) -> LevelCircuitsOut:
        """Translate a record."""
        return cls(**_level(status, by_token))


class LevelDetailOut(LevelCircuitsOut):
    """The circuits of one level, each by itself as well."""

    each: list[CircuitOut]

    @classmethod
    def of_all(
        cls, status: LevelStatus, by_token: int, circuits: Iterable[CircuitStatus]
    ) -> LevelDetailOut:
        """Translate records."""
        return cls(
            **_level(status, by_token), each=[CircuitOut.of(circuit) for circuit in circuits]
        )


class LevelListOut(Out):
    """All levels."""

    levels: list[LevelCircuitsOut]


class SessionOut(Out):
    """A session; nothing here lets anybody use it."""

    id: str
    level: PrivacyLevel
    apart: bool = Field(description="Whether it has a client of its own.")
    age_s: float
    idle_s: float
    in_flight: int
    bytes_sent: int
    bytes_received: int
    quota_bytes: int | None

    @classmethod
    def of(cls, session: SessionStatus) -> SessionOut:
        """Translate a record."""
        return cls.model_validate(dataclasses.asdict(session))


class SessionIn(In):
    """A session to open."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"level": "private", "quota_bytes": 1_000_000}]}
    )

    level: PrivacyLevel = Field(PrivacyLevel.PRIVATE, description="For good.")
    apart: bool = Field(
        False, description="A client of its own, so that no edge can tie it to others by keys."
    )
    quota_bytes: int | None = Field(
        None, ge=1, le=2**62, description="What it may send and receive together; null: no bound."
    )


class SessionOpenedOut(SessionOut):
    """A session as it was opened."""

    token: str = Field(description="Lets its holder use the session; kept nowhere, shown once.")

    @classmethod
    def of_opened(cls, session: SessionStatus, token: str) -> SessionOpenedOut:
        """Translate a record."""
        return cls(**dataclasses.asdict(session), token=token)


class SessionListOut(Out):
    """All sessions that were opened with a token."""

    sessions: list[SessionOut]


def _level(status: LevelStatus, by_token: int) -> dict[str, object]:
    totals = dataclasses.asdict(status.totals)
    return {
        "level": status.level,
        "hops": status.level.hops,
        "sessions": status.sessions,
        "by_token": by_token,
        "circuits": {state: status.circuits.get(state, 0) for state in CircuitState},
        "in_flight": status.in_flight,
        "made": totals.pop("circuits"),
        **totals,
        "client": None if status.health is None else ClientOut.of(status.health),
    }
