"""The services of the backend: how they are, and starting one anew."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from fog_compute.errors import NotFound
from fog_compute.server.dependencies import Services
from fog_compute.server.openapi import answers
from fog_compute.server.parts import NEEDS
from fog_compute.server.status_schemas import RestartedOut, ServiceDetailOut, ServiceListOut

__all__ = ["router"]

router = APIRouter(tags=["system"])

ServiceName = Annotated[
    str, Path(pattern="^[a-z_]{1,40}$", description="The name of a service, as the list has it.")
]


@router.get("/services")
async def list_services(services: Services) -> ServiceListOut:
    """List the services in the order of their start, with what each needs and how it is."""
    return ServiceListOut(
        services=[ServiceDetailOut.of(one, NEEDS[one.name]) for one in services.health()]
    )


@router.get("/services/{name}", responses=answers(404))
async def get_service(name: ServiceName, services: Services) -> ServiceDetailOut:
    """Show one service."""
    for one in services.health():
        if one.name == name:
            return ServiceDetailOut.of(one, NEEDS[one.name])
    raise NotFound(f"there is no service {name}: see /api/v1/services")


@router.post("/services/{name}/restart", responses=answers(404))
async def restart_service(name: ServiceName, services: Services) -> RestartedOut:
    """Stop a service and all that need it, and start them again; tasks go on where they were."""
    return RestartedOut(restarted=list(await services.restart(name)))
