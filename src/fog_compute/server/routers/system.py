"""Status, health and metrics."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request, Response

import fog_compute
from fog_compute.errors import FogError
from fog_compute.levels import PrivacyLevel
from fog_compute.observability.metrics import CONTENT_TYPE
from fog_compute.server.dependencies import Services, TheGathering
from fog_compute.server.network_schemas import ExcludedNodeOut, NetOut, PathFiguresOut, WorkerOut
from fog_compute.server.parts import ORDER, ServiceState
from fog_compute.server.services import ServiceManager
from fog_compute.server.status_schemas import (
    CircuitCountsOut,
    DamagedOut,
    HealthOut,
    LevelOut,
    ReadyOut,
    ServiceOut,
    StatusOut,
)

__all__ = ["open_router", "router"]

router = APIRouter(tags=["system"])
open_router = APIRouter(tags=["system"])

ONE_OPERATOR = "one operator runs all nodes: no anonymity"
TAKE_TASKS: Final = ("store", "workers", "fog_coordinator")
"""The services without which no task is taken."""
NO_COVER = "no cover traffic yet: an observer of your link sees when you send"


@router.get("/status")
async def get_status(services: Services) -> StatusOut:
    """Show services, network, workers and tasks at a glance."""
    store = services.get_service("store")
    levels = await store.statistics.by_level()
    tasks = await store.tasks.count_by_state()
    return StatusOut(
        version=fog_compute.__version__,
        pid=os.getpid(),
        services=[
            ServiceOut(name=entry.name, state=entry.state, detail=entry.detail)
            for entry in services.health()
        ],
        net=_net(services),
        workers=[WorkerOut.of(worker) for worker in services.get_service("workers").workers()],
        tasks=tasks,
        levels={level: LevelOut(**dataclasses.asdict(delta)) for level, delta in levels.items()},
        circuits=_circuits(services),
        damaged=[DamagedOut(**dataclasses.asdict(row)) for row in store.damages.found()],
    )


@open_router.get(
    "/health",
    responses={503: {"model": HealthOut, "description": "A service does not run."}},
    response_model_exclude_none=True,
)
async def get_health(request: Request, services: Services, response: Response) -> HealthOut:
    """Say whether all services run: 200, or 503 while one does not. Strangers learn no more."""
    if not services.healthy:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    if request.state.caller is None:
        return HealthOut(status="ok" if services.healthy else "degraded")
    return HealthOut(
        status="ok" if services.healthy else "degraded",
        version=fog_compute.__version__,
        services={entry.name: entry.state for entry in services.health()},
        reasons=[*_not_running(services), *services.troubles()],
    )


@open_router.get(
    "/ready", responses={503: {"model": ReadyOut, "description": "No task would be taken."}}
)
async def get_readiness(services: Services, response: Response) -> ReadyOut:
    """Say whether a task would be taken now: 200, or 503 and why not.

    A network that is away is no reason: tasks are taken, and wait for it. One that has no path for
    any level is, as then they are refused.
    """
    reasons = await _in_the_way(services)
    if reasons:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return ReadyOut(ready=not reasons, reasons=reasons)


@open_router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "All metrics, as text.",
            "content": {CONTENT_TYPE: {"schema": {"type": "string"}}},
        }
    },
)
async def get_metrics(services: Services, gathering: TheGathering) -> Response:
    """Give all metrics in the text format of Prometheus; none carries an id."""
    await gathering.gather()
    return Response(services.metrics.registry.render(), media_type=CONTENT_TYPE)


def _not_running(services: ServiceManager, names: Collection[str] = ORDER) -> list[str]:
    return [
        f"{one.name} is {one.state}: {one.detail}"
        for one in services.health()
        if one.name in names and one.state is not ServiceState.RUNNING
    ]


async def _in_the_way(services: ServiceManager) -> list[str]:
    if services.stopping:
        return ["the backend is stopping"]
    found = _not_running(services, TAKE_TASKS)
    view = services.net_status
    short = {} if view is None else view.shortages
    if all(level.hops in short for level in PrivacyLevel):
        found.append(f"no level has a path: {short[PrivacyLevel.PUBLIC.hops].text}")
    if not found:
        try:
            await services.get_service("store").touch()
        except FogError as error:
            found.append(error.message)
    return found


def _troubles(seen: str, met: str) -> list[str]:
    """What keeps the client from its network, and what the coordinator met, if that is more."""
    return [text for text in (seen, "" if met in seen else met) if text]


def _circuits(services: ServiceManager) -> dict[PrivacyLevel, CircuitCountsOut]:
    onion = services.get_service("onion_circuit")
    return {
        level: CircuitCountsOut(
            circuits=sum(n for state, n in status.circuits.items() if state.usable),
            sessions=status.sessions,
            in_flight=status.in_flight,
        )
        for level in PrivacyLevel
        if (status := onion.status(level)).circuits
    }


def _net(services: ServiceManager) -> NetOut | None:
    view = services.net_status
    if view is None:
        return None
    return NetOut(
        name=view.network,
        epoch=view.epoch,
        nodes=view.nodes,
        mean_delay_ms=view.mean_delay_ms,
        one_operator=view.one_operator,
        paths=[
            PathFiguresOut(
                hops=path.hops, tries=path.tries, lost=path.lost, round_trip_ms=path.round_trip_ms
            )
            for path in view.paths
        ],
        excluded=[ExcludedNodeOut(**dataclasses.asdict(node)) for node in view.excluded.values()],
        warnings=[
            *_troubles(view.trouble or "", services.get_service("fog_coordinator").trouble),
            *([ONE_OPERATOR] if view.one_operator else []),
            *(
                f"no path at {level.value}: {short.text}"
                for level in PrivacyLevel
                if (short := view.shortages.get(level.hops))
            ),
            NO_COVER,
        ],
    )
