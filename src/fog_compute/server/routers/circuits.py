"""Circuits, to look at."""

from __future__ import annotations

from collections import Counter

from fastapi import APIRouter

from fog_compute.levels import PrivacyLevel
from fog_compute.server.circuit_schemas import LevelCircuitsOut, LevelDetailOut, LevelListOut
from fog_compute.server.dependencies import Services
from fog_compute.server.services import ServiceManager

__all__ = ["router"]

router = APIRouter(tags=["network"])


@router.get("/circuits")
async def list_circuits(services: Services) -> LevelListOut:
    """Show the circuits of all levels, and how their clients fare."""
    onion = services.get_service("onion_circuit")
    by_token = _by_token(services)
    return LevelListOut(
        levels=[LevelCircuitsOut.of(onion.status(level), by_token[level]) for level in PrivacyLevel]
    )


@router.get("/circuits/{level}")
async def get_circuits(level: PrivacyLevel, services: Services) -> LevelDetailOut:
    """Show the circuits of one level, each by itself as well."""
    onion = services.get_service("onion_circuit")
    circuits = [circuit.status() for circuit in onion.circuit_pools[level]]
    return LevelDetailOut.of_all(onion.status(level), _by_token(services)[level], circuits)


def _by_token(services: ServiceManager) -> Counter[PrivacyLevel]:
    return Counter(session.level for session in services.get_service("sessions").sessions())
