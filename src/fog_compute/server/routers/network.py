"""Workers and nodes, to look at."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from fog_compute.coordinator.placement import WorkerState
from fog_compute.errors import NotFound, ServiceUnavailable
from fog_compute.levels import PrivacyLevel
from fog_compute.server.dependencies import Services
from fog_compute.server.network_schemas import NodeListOut, NodeOut
from fog_compute.server.openapi import answers
from fog_compute.server.schemas import WorkerListOut, WorkerOut
from fog_compute.server.services import ServiceManager
from fog_compute.tasks import TaskKind

__all__ = ["router"]

router = APIRouter(tags=["network"])

NodeId = Annotated[str, Path(pattern="^[0-9a-f]{1,64}$", description="The id of a node.")]


@router.get("/workers")
async def list_workers(
    services: Services,
    state: WorkerState | None = None,
    level: PrivacyLevel | None = None,
    kind: TaskKind | None = None,
) -> WorkerListOut:
    """List the workers of this machine's groups: all, or those that take a level or a kind."""
    found = services.get_service("workers").workers()
    return WorkerListOut(
        workers=[
            WorkerOut.of(worker)
            for worker in found
            if (state is None or worker.state is state)
            and (level is None or worker.level in (None, level))
            and (kind is None or kind.value in worker.kinds)
        ]
    )


@router.get("/workers/{name}", responses=answers(404))
async def get_worker(
    name: Annotated[str, Path(max_length=200, description="As the list has it.")],
    services: Services,
) -> WorkerOut:
    """Show one worker, by the name that the list has of it."""
    found = [WorkerOut.of(worker) for worker in services.get_service("workers").workers()]
    named = [worker for worker in found if worker.name == name]
    if len(named) != 1:
        raise NotFound(f"{len(named) or 'no'} listed workers have this name: see /api/v1/workers")
    return named[0]


@router.get("/nodes")
async def list_nodes(services: Services) -> NodeListOut:
    """Count the nodes of the network by role, and show those that this machine has to do with.

    They are its edges, and the nodes that it leaves out because they lost its packets. Nothing here
    says which message went over which node.
    """
    return _nodes(services)


@router.get("/nodes/{node_id}", responses=answers(404))
async def get_node(node_id: NodeId, services: Services) -> NodeOut:
    """Show one of the nodes that this machine has to do with, by the beginning of its id."""
    named = [node for node in _nodes(services).nodes if node.id.startswith(node_id)]
    if len(named) != 1:
        raise NotFound(f"{len(named) or 'no'} nodes in /api/v1/nodes begin with this id")
    return named[0]


def _nodes(services: ServiceManager) -> NodeListOut:
    view = services.net_status
    if view is None:
        raise ServiceUnavailable("the network was not joined yet: see /api/v1/status")
    onion = services.get_service("onion_circuit")
    health = (onion.status(level).health for level in PrivacyLevel)
    return NodeListOut.of(view, [each for each in health if each is not None])
